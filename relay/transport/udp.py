"""UDP to a collector (RFC 5426): datagrams that may be lost without notice.

The only feedback is an ICMP error: a host or port is not reachable. The kernel reports it with the next call. A
firewall that drops and a collector that discards report nothing, so a silent address counts as reachable.

UdpTransport uses the first address of a name that has not failed in this way. An error ends it, because earlier
messages may be lost; the next transport uses the next address. Before it sends more than one datagram to an address
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
from relay.transport.dial import DialTarget, resolve
from relay.values.address import Address

LARGEST_DATAGRAM: Final = 65_507
"""Octets of data in one IPv4 datagram (RFC 768, RFC 791: 65,535 less both headers)."""
LISTENING: Final = 0.5

Failures = dict[str, str]
"""Addresses of a collector that have failed, with the reason; the caller keeps it from one transport to the next."""


class UdpTransport:
    """A connected socket; no call waits for the other side for longer than LISTENING seconds."""

    def __init__(self, host: str, port: int, failures: Failures | None = None) -> None:
        self._what = f"collector {Address(host, port)} (udp)"
        self._failures = {} if failures is None else failures
        addresses = resolve(DialTarget(self._what, host, port, "address", "port", "collector"))
        if all(address[0] in self._failures for _, _, address in addresses):
            self._failures.clear()
        for family, _, address in addresses:
            if address[0] in self._failures:
                continue
            with contextlib.ExitStack() as undo:
                try:
                    sock = socket.socket(family, socket.SOCK_DGRAM)
                    undo.callback(sock.close)
                    sock.connect(address)
                except OSError as error:  # the kernel has no route to it
                    self._failures[address[0]] = _reason(error)
                    continue
                undo.pop_all()
            self._socket, self.address = sock, address[0]
            break
        else:
            raise self._unreachable()
        self.others = any(address[0] not in {self.address, *self._failures} for _, _, address in addresses)
        """Whether the name has further addresses that have not failed."""
        self._listened = not self.others

    def send(self, message: bytes) -> None:
        """Send one datagram; UnavailableError when an earlier one was rejected, or this one is too large."""
        with self._mapped():
            self._socket.send(message)
        if not self._listened:
            self._listened = True
            self.check(LISTENING)

    def check(self, timeout: float = 0.0) -> None:
        """UnavailableError when an earlier datagram was rejected, or an error about one arrives within the seconds."""
        poll = select.poll()
        poll.register(self._socket, 0)  # errors are always reported
        poll.poll(timeout * 1000)
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
        reasons = "; ".join(f"{address}: {reason}" for address, reason in self._failures.items())
        remedy = "check address and port, and that a collector listens there by UDP"
        return UnavailableError(self._what, reasons, remedy)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
