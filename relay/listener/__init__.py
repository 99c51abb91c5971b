"""Listeners: they receive messages from other programs, and answer "accepted" only after fsync."""
