"""Delivery: one destination's loop, in a thread of its own: read, send, prove, move the cursor; retry.

`destination` is the loop, the same for a server and for the archive. What differs is the session that it is given:
`syslog_stream` sends to a collector and proves by draining, `answered_stream` to one that answers every message,
`unproven` to one that can prove nothing; `archive_session` writes the receiver's archive.
"""
