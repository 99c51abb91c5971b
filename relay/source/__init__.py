"""Sources: where events come from, each with a position that survives a restart."""
