"""Training runs: engine/ computes steps, monitor/ watches them, run/ keeps their files; start.py and loop.py drive."""
