"""The watch on this machine's audit trail: kernel, audit daemon, and the records that arrive from it."""
