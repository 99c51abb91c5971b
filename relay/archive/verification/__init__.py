"""Checking an archive: every octet by the ledgers' chain, every number, and the files against the journal.

`archive_check` is the entrance, `day_check` follows the chain through one day, `findings` has what they report.
`relay.archive.completeness` assesses the numbers.
"""
