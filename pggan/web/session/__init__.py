"""A tab: its screen, undo, and the messages that it sends."""
