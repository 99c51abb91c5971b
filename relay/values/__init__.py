"""Values that every room may use: events, alarms, times, sizes, names, and the settings (`configuration`). Pure.

`event` and `provenance` travel through the program. What people write and read: `text`, `size`, `duration`, `amount`,
`moment`, `address`, `glob_matcher`, `did_you_mean`.
"""
