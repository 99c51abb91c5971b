"""Events: what each kind is, and how it becomes an RFC 5424 message. Pure.

`audit` has auditd's records, `ssr` a router's events, `own_events` relay's own. `envelope` is the beginning that all
messages of a router share.
"""
