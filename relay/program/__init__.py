"""The programs `relay run`, `relay receive` and `relay dispatch`, and the work of the other commands.

`forwarder` and `receiver` are the two roots: each puts its program together from the settings, on the `road` that both
share. There the `intake` stores events, and `housekeeping` looks once a second at everything that can go wrong; the
table of that is `alarms`. `watch` has what it looks with, `reload` changes a running program, `status` and `metrics`
show it to others, `history` shows its events, and `connection_test` tries its servers. `dispatch` is auditd's plugin.
"""
