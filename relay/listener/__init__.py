"""Listeners: they receive messages from other programs, and answer "accepted" only after fsync.

Begin with `listeners`, which makes one of each URL. Stream sockets: `tcp`, on which `tls` and `unix_socket` build, and
`ssh_endpoint`. An `acceptor` accepts their connections as far as `admission` allows, and each becomes a `stream`: it
asks `conversation` for the protocol, and answers when the intake has stored the messages. `proxied_stream` is one
behind a load balancer. `datagrams` has no connections and no answers. `aside` keeps what is not syslog.
"""
