"""Configuration files in, drafts out, and the drafts merged into one document."""
