"""One spool file: its format, its reader and its recovery."""
