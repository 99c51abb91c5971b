"""Stays in a network namespace, and passes connected sockets out of it: `doorkeeper.py UNIX-SOCKET PORT`.

Each connection to the unix socket gets one octet with the descriptor of a TCP connection to 127.0.0.1:PORT inside the
namespace, or one octet without a descriptor when that connection was refused. harness.auditd runs it under
`unshare --net`.
"""

import contextlib
import fcntl
import socket
import struct
import sys

_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 1


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _hand_out(visitor: socket.socket, port: int) -> None:
    with visitor, contextlib.suppress(BrokenPipeError):
        try:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                socket.send_fds(visitor, [b"y"], [connection.fileno()])
        except ConnectionRefusedError:
            visitor.send(b"n")


def main(path: str, port: int) -> None:
    """Serve until killed."""
    _raise_loopback()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen(16)
        sys.stdout.write("open\n")
        sys.stdout.flush()
        while True:
            _hand_out(door.accept()[0], port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
