"""Reloading: what a changed configuration changes in a running program."""
