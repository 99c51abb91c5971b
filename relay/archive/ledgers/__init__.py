"""Reads ledgers, which `relay.archive.ledger` encodes and decodes.

`LedgerReader` reads one forward and backward. `ledger_end` reads the last lines of any open file, for it and for the
writer and the keeper of days, which read through the `Disk` that they write with. `described_files` finds the one log
of a day that its ledger describes.
"""
