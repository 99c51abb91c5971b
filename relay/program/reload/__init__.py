"""Reloading: a changed configuration takes effect in a running program."""
