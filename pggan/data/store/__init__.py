"""The multi-resolution LMDB store: reading, writing, verifying, repairing, merging."""
