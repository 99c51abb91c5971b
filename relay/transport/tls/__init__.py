"""TLS streams: the engine, certificates, the client's transport, and the faults of handshakes."""
