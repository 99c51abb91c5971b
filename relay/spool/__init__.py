"""The spool: what is accepted, on disk, until its delivery is proven. `FORMAT.md` describes the files.

From the bottom up: `block` is the format's unit, `segments` has one file of blocks, `spool` is a folder of segments
with its writer, and `spool_reader` reads it. `slots` holds small values, such as a `cursor`. `losses` counts what will
not be delivered. `store` holds both spools of a state directory, and `full_disk` owns their space. `commit` is one
commit of the intake. `inspection` is for other processes.

Kept here: an event and its source's position become durable by the same fsync. Readers see synced blocks only. The
spool holds messages, never frames with a connection's state. A torn tail is cut, after a copy.
"""
