"""relay: gets a router's audit trail to the log server, and can prove it."""
