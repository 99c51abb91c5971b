"""SSR events: what a router's event collector writes, and how it becomes RFC 5424 messages. Pure.

`records` cuts the collector's output into events, written in `line_protocol` or as `json_line`. Each is a `collected`
value; `filters` decides which pass, and `mapping` writes the message.
"""
