"""One spool file: `segment` has its format and its writer, `segment_reader` reads its blocks and steps over damage.

`segment_tail` finds where the newest one ends when a spool is opened.
"""
