"""SSH: the session to a server, the port forwarding for other programs, and what both ends need.

`session` is what delivery uses: one session, and a pipe for each channel. `handshake` connects it, `transport_layer` is
paramiko with what it lacks, `liveness` decides when a silent peer is dead, and `bounds` when a server sends too
much. Host keys: `known_hosts`, `offered_keys`. Own keys: `private_key`, `public_key`. `key_lines` divides OpenSSH's
files. `forwarding` listens for other programs. For relay's own SSH end: `authorized_keys`, and `channel_mark`, by which
it knows relay's channels.
"""
