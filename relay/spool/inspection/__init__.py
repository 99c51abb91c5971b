"""Looking at a spool from another process: reading, surveying and verifying it."""
