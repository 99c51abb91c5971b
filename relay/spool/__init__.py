"""The spool: what is accepted, on disk, until it is proven delivered.

`block` (pure) is the format's unit, `segment` a file of blocks, `cursor` the preallocated slots, `spool` one folder of
segments with its writer and readers, `store` the two spools of a state directory with their lock and their run.

Kept here (DESIGN section 2): an event and its source's position are made durable by the same fsync (1); readers see
synced blocks only (2); the spool holds messages, never frames with connection state (5); a torn tail is cut, after a
copy (7).
"""
