"""Whether relay can listen on a local TCP port, which process holds it instead, and whose programs are connected.

The holder is found in proc(5)'s tables: /proc/net/tcp and tcp6 name the socket's inode, /proc/PID/fd the processes that
have it open. Only root can inspect other users' processes; a holder that is not found is "another process".
"""

import contextlib
import errno
import os
import re
import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from relay.errors import CannotCreateError, PermissionRefusedError, RelayError, TemporaryError
from relay.values.address import Address
from relay.values.text import excerpt

_LISTEN: Final = "0A"  # the state of a listening socket, net/tcp_states.h
_ESTABLISHED: Final = "01"
_WORD: Final = 8  # hexadecimal digits of 32 bits, in the machine's byte order
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


def family(address: str) -> socket.AddressFamily:
    """The address family of an IP address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def require_free(address: str, port: int) -> None:
    """Return if relay could listen on the port now; else raise the error of `refusal`."""
    with socket.socket(family(address)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise refusal(error, address, port) from error


def refusal(error: OSError, address: str, port: int) -> RelayError:
    """Why relay cannot listen on the port; retryable only if another process holds it."""
    what = f"local port {Address(address, port)}"
    if error.errno == errno.EADDRINUSE:
        cause = f"taken by {holder(address, port) or 'another process'}"
        return TemporaryError(what, cause, "stop that program, or choose another local-port")
    if error.errno == errno.EACCES:
        remedy = "choose a local-port from 1024 up, or give relay CAP_NET_BIND_SERVICE"
        return PermissionRefusedError(what, "relay's user is not allowed to listen on it", remedy)
    if error.errno == errno.EADDRNOTAVAIL:
        return CannotCreateError(what, "this machine has no such address", "correct local-address")
    return CannotCreateError(what, f"listening on it fails ({(error.strerror or str(error)).lower()})")


def holder(address: str, port: int) -> str:
    """The process that listens on the port, as `NAME (process PID)`; "" if none is found."""
    inodes = set(_listening_sockets(address, port))
    for process in Path("/proc").iterdir() if inodes else ():
        if process.name.isdigit() and inodes & _sockets_of(process):
            try:
                name = excerpt((process / "comm").read_text(errors="replace").rstrip("\n"))
            except OSError:
                name = "a process that has just ended"
            return f"{name} (process {process.name})"
    return ""


def _listening_sockets(address: str, port: int) -> Iterator[str]:
    """The inodes of the sockets that listen on the port and conflict with the address."""
    wished = ip_address(address)
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):  # there is no IPv6, or no /proc
            for row in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, local, _, state, *others = row.split()
                digits, _, number = local.partition(":")
                if state == _LISTEN and int(number, 16) == port:
                    taken = _parse_address(digits)
                    if taken == wished or taken.is_unspecified or wished.is_unspecified:
                        yield others[5]


def users_of(local_port: int) -> dict[int, int]:
    """The user ids of the programs of this machine that are connected to a local port, by their own port."""
    users = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for row in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, local, remote, state, *others = row.split()
                if state == _ESTABLISHED and int(remote.partition(":")[2], 16) == local_port:
                    users[int(local.partition(":")[2], 16)] = int(others[3])
    return users


def _parse_address(digits: str) -> IPv4Address | IPv6Address:
    words = (int(digits[at : at + _WORD], 16) for at in range(0, len(digits), _WORD))
    address = ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    return getattr(address, "ipv4_mapped", None) or address


def _sockets_of(process: Path) -> set[str]:
    """The inodes of a process's open sockets; none if it has ended or this user is not allowed to inspect it."""
    inodes = set()
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(process / "fd"):
            # Closed meanwhile: at least the one that listed the folder, if this is our own process.
            with contextlib.suppress(OSError):
                if found := _SOCKET.fullmatch(os.readlink(process / "fd" / descriptor)):
                    inodes.add(found[1])
    return inodes
