"""The archive's one writer.

`archive_writer` takes messages and commits them. An originator's day is a `open_day.OpenDay`: a log and its ledger, to
which each commit appends. What waits for a commit is gathered in an `extent_draft.ExtentDraft`. `journal` is the one
commit point, and `recovery` brings everything back to it. `relay/archive/FORMAT.md` describes all files.
"""
