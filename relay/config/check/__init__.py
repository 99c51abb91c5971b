"""What `relay config check` finds beyond the form of a configuration."""
