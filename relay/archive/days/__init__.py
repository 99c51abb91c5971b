"""Closed days of the archive: how they are stored, compressed and removed.

The writer closes a day; `event_times` has the times that its `Closing` gives. `commit_count` shows when what the writer
wrote is committed. `compressed_log` reads a compressed log by the offsets of the uncompressed one.
"""
