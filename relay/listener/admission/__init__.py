"""Who is served: ceilings of connections, room for newcomers, and penalties for sources whose connections fail.

`admission.Admission` decides about each connection that was accepted, before anything is read from it. The other
modules are its pure parts: `penalties`, `standing` (sources that are not
locked out by strangers behind their address), `early_drop` and `oldest_first` (whose connection makes room).
"""
