"""Reading an archive, whether or not a process is writing it.

Begin with `day_log`: one originator's day, as pieces of its log that the ledger describes. It reads octets through
`log_octets` (compressed logs as well) and extents through `relay.archive.ledgers`. `originators` lists what there is.
`ledger_tail` and `originator_report` read only the newest of an originator.
"""
