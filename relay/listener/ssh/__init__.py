"""The receiver's own SSH end, on asyncssh: no threads, everything on the event loop.

`ssh_listener` is what the receiver knows of it. `ssh_endpoint` listens and admits connections. `ssh_connection` is one
sender: its login, and what it may ask for. `channel_stream` is one of its channels, as the ByteStream that the rest of
the receiver reads. `server_options` names every option of asyncssh.

asyncssh implements RFC 4253 and 4254 for peers that are honest. What it leaves unbounded for the others is bounded in
`ssh_connection` and `channel_stream`, with some of its private names; so its version is pinned to a minor release.
"""
