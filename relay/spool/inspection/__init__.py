"""Looking at a spool from another process, also while its writer works; nothing is changed.

`browse` walks through the blocks, `survey` lists the segments by their headers, `verify` checks every octet, and
`overview` is the short answer for `relay status`.
"""
