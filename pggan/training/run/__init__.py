"""The files of a run, its processes and signals."""
