"""What the archive needs of files beyond `relay.system.disk`: who may read them, and syncing a whole file system."""
