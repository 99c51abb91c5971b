"""Syslog messages and their framings as values: no clock, disk, network, logging or randomness in here.

A message: `rfc5424` reads and writes the standard's form, `lenient` reads all others, `priority` has PRI, and `outcome`
says whether a message reports a failure. On the wire: `framing` for plain streams, `relp` on `relp_frame`, and
`auditd_remote`; the latter two share `frames`. `datagram` is for UDP. Before a stream: `proxy_header`, and
`other_protocol` for what is not syslog at all.
"""
