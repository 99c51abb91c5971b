"""Syslog messages and their framings as values: no clock, disk, network, logging or randomness in here.

A message: `rfc5424` reads and writes the standard's form, `lenient` reads all others, `priority` has PRI, and `outcome`
says whether a message reports a failure. On the wire: `framing` for plain streams and `datagram` for UDP. RELP
(`relp`, on `relp_frame`) and auditd's protocol (`auditd_remote`) answer each message, and share `answered_frames`.
Before a stream: `proxy_header`, and `other_protocol` for what is not syslog at all.
"""
