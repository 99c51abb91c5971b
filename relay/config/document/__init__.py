"""Configuration files in, one document of drafts out."""
