"""SSR events: what a router's event collector writes, and how it becomes RFC 5424 messages. Pure."""
