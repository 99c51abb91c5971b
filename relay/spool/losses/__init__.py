"""What is lost of a spool, and how it is counted."""
