"""The operating system: files, signals, other programs, the service manager, relay's own log."""
