"""The watch on this machine's audit trail: kernel, audit daemon, and the records that arrive from it.

`audit_trail_watch` is the watch. `machine` asks for it, with `kernel_audit`; an `observation` is what was found. The
`canary` is relay's own record, which must come back, and `own_records` finds rules that audit relay itself.
"""
