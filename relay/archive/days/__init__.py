"""Closed days of the archive: how they are stored, compressed and removed.

`compressed_log` reads a compressed log by the offsets of the uncompressed one.
"""
