"""Programs that relay starts: without its rights, and to their end."""
