"""Listeners: what others send comes in here, and is told "accepted" only after fsync."""
