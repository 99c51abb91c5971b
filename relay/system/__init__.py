"""The operating system, as far as relay needs it.

`disk` is the seam to the disk: only it calls fsync, rename and flock; `files` has modes and whole file systems. `clock`
and `time_zone`; `signals` and `service_manager`; `command` and `background_call` for what takes long; `netlink` to the
kernel's audit; `descriptors`. `operational_log` is relay's own log, with `minute_log` and `rare_log` for what repeats.
`crash_point` is for tests.
"""
