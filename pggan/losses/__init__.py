"""Losses of the two players, one file each; regularizers/ and augment/ below. Their table is config/losses.py."""
