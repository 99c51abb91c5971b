"""Configuration files in, settings out; every mistake at once, with its file, line and key."""
