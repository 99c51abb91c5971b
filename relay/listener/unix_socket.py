"""Unix sockets of listeners, for programs on this machine: a stream, or datagrams as with /dev/log.

Their files: `relay.system.files.socket_file`. A Unix socket cannot be reset. So only RELP's answers prove anything to a
sender; the end of a plain stream does not.
"""

import socket

from relay.listener.listening_socket import BACKLOG, Bind, on_high_descriptor
from relay.system.files.socket_file import open_socket


def binding_of_path(path: str, kind: socket.SocketKind, mode: int) -> Bind:
    """Make a socket's file of that mode, and listen there; CannotCreateError when something else is at the path."""
    return lambda: [on_high_descriptor(open_socket(path, kind, mode, BACKLOG, "listen"))]
