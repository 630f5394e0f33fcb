"""Terms that add to a player's loss, one short file each; their table is in pggan/objectives/__init__.py."""
