"""SSH: the session to a server, the port forwarding for other programs, and what both ends need.

`session` is what delivery uses: one session, and a pipe for each channel. `handshake` connects it, `transport_layer` is
paramiko with what it lacks, and `liveness` decides when a silent peer is dead. Host keys: `known_hosts`,
`offered_keys`. Own keys: `private_key`, `public_key`. `port_forward` listens for other programs, if `local_port` finds
the port free. For relay's own SSH end: `authorized_keys`, and `channel_mark`, by which it knows relay's channels.
"""
