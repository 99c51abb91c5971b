"""Events: what each kind is, and how it becomes an RFC 5424 message. Pure."""
