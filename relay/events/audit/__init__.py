"""The audit domain: auditd's lines in, events and their messages out. Pure: no clock, no disk, no network.

The way there: `record` parses a line, `assembly` collects the records of one serial (`record_types` has which one ends
it), and `mapping` writes the event, with `fields` decoded and written as `params`. `parts` splits a message for a
server's limit. `dispatcher` reads the stream to auditd's plugins, and `received` records of another machine.

The way back: `as_records` turns a message into records, for servers that speak the auditd protocol.
"""
