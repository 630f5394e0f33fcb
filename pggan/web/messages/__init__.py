"""What a page can ask for: a module for each subject, each with a table of its messages."""
