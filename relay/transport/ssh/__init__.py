"""SSH sessions: keys, host keys, the handshake, channels and the local port forwarding."""
