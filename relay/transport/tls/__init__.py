"""TLS streams: certificates, contexts, handshakes and what goes wrong in them."""
