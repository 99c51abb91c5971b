"""The state of a program, for `relay status` and for checks.

`live` is what a running program adds, and `control_socket` asks it. `status` joins that with the state directory.
"""
