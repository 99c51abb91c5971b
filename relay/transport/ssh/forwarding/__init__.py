"""The local end of a port forwarding: it listens for other programs of this machine.

`port_forward` is the listener and its session; `local_clients` chooses which connection makes room for another;
`local_port` finds out whether the port is free and whose programs are connected.
"""
