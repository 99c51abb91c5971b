"""TLS for either side.

`engine` is TLS without I/O. `transport` runs it on the pipes of another transport, for a client as `client` configures
it; the listeners run it on their streams. `certificate` reads certificates and keys, and `faults` explains refusals.
"""
