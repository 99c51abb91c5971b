"""UDP to a collector (RFC 5426): datagrams that may be lost without a word.

All that ever comes back is the kernel's word that a host or port is not reachable (an ICMP error), with the next call.
"""

import contextlib
import select
import socket
from collections.abc import Iterator
from typing import Final

from relay.errors import UnavailableError
from relay.quantity import Address
from relay.transport.dial import Goal, resolve

LARGEST_DATAGRAM: Final = 65_507
"""Octets of data that IPv4 carries in one (RFC 768, RFC 791: 65,535 less both headers)."""


class UdpWay:
    """A connected socket; nothing that it does waits for the other side."""

    def __init__(self, host: str, port: int) -> None:
        self._what = f"collector {Address(host, port)} (udp)"
        addresses = resolve(Goal(self._what, host, port, "address", "port", "collector"))
        family, _, address = addresses[0]
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        with self._mapped():
            self._socket.connect(address)

    def send(self, message: bytes) -> None:
        """Send one datagram; UnavailableError when an earlier one was refused, or this one is too large."""
        with self._mapped():
            self._socket.send(message)

    def check(self, patience: float = 0.0) -> None:
        """UnavailableError when an earlier datagram was refused, or word of it comes within `patience` (seconds)."""
        poll = select.poll()
        poll.register(self._socket, 0)  # errors are told unasked
        poll.poll(patience * 1000)
        with self._mapped():
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "the last datagram was refused")

    def close(self) -> None:
        """Close the socket; never raises."""
        self._socket.close()

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(
                self._what, (error.strerror or str(error)).lower(), "does it listen there?"
            ) from error
