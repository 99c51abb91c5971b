"""UDP to a collector (RFC 5426): datagrams that may be lost without a word.

All that ever comes back is an ICMP error: a host or port is not reachable. The kernel reports it with the next call. A
firewall that drops and a collector that discards report nothing, so an address that stays silent counts as reachable.

Of the addresses of a name, the first is taken that no such error has come from. An error ends the way, because what was
sent before it may be lost; the next way goes to the next address. Before it sends more than one datagram to an address
that may be wrong, it waits LISTENING seconds for such an error. When each address has failed, all are tried again.
"""

import contextlib
import errno
import os
import select
import socket
from collections.abc import Iterator
from typing import Final

from relay.errors import UnavailableError
from relay.transport.dial import DialTarget, TcpAddress, resolve
from relay.values.address import Address

LARGEST_DATAGRAM: Final = 65_507
"""Octets of data that IPv4 carries in one (RFC 768, RFC 791: 65,535 less both headers)."""
LISTENING: Final = 0.5

Failures = dict[str, str]
"""Addresses of a collector that have failed, and why; kept by the caller from one way to the next."""


class UdpTransport:
    """A connected socket; nothing that it does waits for the other side for longer than LISTENING seconds."""

    def __init__(self, host: str, port: int, failures: Failures | None = None) -> None:
        self._what = f"collector {Address(host, port)} (udp)"
        self._failures = {} if failures is None else failures
        addresses = resolve(DialTarget(self._what, host, port, "address", "port", "collector"))
        if all(address[0] in self._failures for _, _, address in addresses):
            self._failures.clear()
        self._socket, self.address = self._connected(addresses)
        self.others = any(address[0] not in {self.address, *self._failures} for _, _, address in addresses)
        """Whether the name has further addresses that have not failed."""
        self._heard = not self.others

    def _connected(self, addresses: list[TcpAddress]) -> tuple[socket.socket, str]:
        """A socket to the first address that has not failed, and that the kernel has a route to."""
        for family, _, address in addresses:
            if address[0] in self._failures:
                continue
            with contextlib.ExitStack() as undo:
                try:
                    sock = socket.socket(family, socket.SOCK_DGRAM)
                    undo.callback(sock.close)
                    sock.connect(address)
                except OSError as error:
                    self._failures[address[0]] = _reason(error)
                    continue
                undo.pop_all()
                return sock, address[0]
        raise self._unreachable()

    def send(self, message: bytes) -> None:
        """Send one datagram; UnavailableError when an earlier one was refused, or this one is too large."""
        with self._mapped():
            self._socket.send(message)
        if not self._heard:
            self._heard = True
            self.check(LISTENING)

    def check(self, patience: float = 0.0) -> None:
        """UnavailableError when an earlier datagram was refused, or word of it comes within `patience` (seconds)."""
        poll = select.poll()
        poll.register(self._socket, 0)  # errors are told unasked
        poll.poll(patience * 1000)
        with self._mapped():
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))

    def close(self) -> None:
        """Close the socket; never raises."""
        self._socket.close()

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                remedy = "set a smaller max-message-size, or use TCP"
                raise UnavailableError(self._what, "a message is too large for one datagram", remedy) from error
            self._failures[self.address] = _reason(error)
            raise self._unreachable() from error

    def _unreachable(self) -> UnavailableError:
        told = "; ".join(f"{address}: {reason}" for address, reason in self._failures.items())
        return UnavailableError(self._what, told, "does a collector listen there by UDP? are address and port right?")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
