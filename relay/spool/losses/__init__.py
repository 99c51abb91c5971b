"""What is lost of a spool, and how it is counted.

A loss is a `gap` until an event reports it. `store_losses` has those of each destination; begin there. `numbers` finds
them by the numbers around them, `spool_contents` by the segments, and `run_memory` by what is remembered of earlier
runs. `refused_messages` keeps what a server refused for good.
"""
