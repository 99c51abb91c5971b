"""Reading an archive, whether or not a process is writing it.

`originators` lists what there is. Begin with `day_log`: one originator's day, as pieces of its log that the ledger
describes. It reads octets through `log_octets` (compressed logs as well) and extents through `relay.archive.ledgers`.
`line_search` finds lines in it without parsing the others. `ledger_tail` and `originator_report` read only the newest
of an originator.
"""
