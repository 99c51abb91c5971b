"""The receiver's archive: plain files, one for each originator and day, that any tool reads (`FORMAT.md`).

The formats are pure: `layout` names the files, `log_line` and `json_line` are the two forms of a line, `ledger` is the
line that describes other lines, `identity` is the number by which a message is known again.

A message comes through `writer`, which asks `filing` where it belongs. A day that is over belongs to `days`. `reading`
answers queries beside the writer. `verification` checks everything, and `completeness` what is missing; `export` packs
days for an auditor. `ledgers` is how all of them read a ledger.
"""
