"""The archive's one writer.

`archive_writer` takes messages and commits them, as often as `commit_pace` says; begin there. An originator's day is an
`open_day`: a log and its ledger, to which each commit appends. `open_days` has all of them, and `open_files` their
files. What waits for a commit is gathered in an `extent_draft`. `journal` is the one commit point, and `recovery`
brings everything back to it. `relay/archive/FORMAT.md` describes all files.

Exactly once: `seen_identities` has the numbers of the messages that are stored. A message whose number is among them is
judged by `repetitions`, which compares it with the octets that `stored_identities` finds.
"""
