"""Regularizers: terms that are added to a player's loss, one file each. Their table is pggan/config/losses.py."""
