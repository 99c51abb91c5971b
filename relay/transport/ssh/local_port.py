"""A local TCP port that is to be listened on: whether it can be had, and who has it instead.

The holder is found in proc(5)'s tables: /proc/net/tcp and tcp6 name the socket's inode, /proc/PID/fd who has it open.
Other users' processes can only be looked at by root; a holder that is not found is "another process".
"""

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
from relay.values.text import excerpt

_LISTEN: Final = "0A"  # the state of a listening socket, net/tcp_states.h
_WORD: Final = 8  # hexadecimal digits of 32 bits, in the machine's byte order
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


def family(address: str) -> socket.AddressFamily:
    """The address family of an IP address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def require_free(address: str, port: int) -> None:
    """Return when the port could be listened on now; else raise what `refusal` says."""
    with socket.socket(family(address)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise refusal(error, address, port) from error


def refusal(error: OSError, address: str, port: int) -> RelayError:
    """Why the port cannot be listened on; retryable only when another process has it."""
    what = f"local port {f'[{address}]' if ':' in address else address}:{port}"
    if error.errno == errno.EADDRINUSE:
        cause = f"taken by {holder(address, port) or 'another process'}"
        return TemporaryError(what, cause, "stop that program, or choose another local-port")
    if error.errno == errno.EACCES:
        remedy = "choose a local-port from 1024 up, or give relay CAP_NET_BIND_SERVICE"
        return PermissionRefusedError(what, "relay's user may not listen on it", remedy)
    if error.errno == errno.EADDRNOTAVAIL:
        return CannotCreateError(what, "this machine has no such address", "mend local-address")
    return CannotCreateError(what, f"cannot be listened on ({(error.strerror or str(error)).lower()})")


def holder(address: str, port: int) -> str:
    """The process that listens on the port, as `NAME (process PID)`; "" when none is found."""
    inodes = set(_listening(address, port))
    for process in _processes() if inodes else ():
        if inodes & _sockets(process):
            return f"{_name(process)} (process {process.name})"
    return ""


def _listening(address: str, port: int) -> Iterator[str]:
    wanted = ip_address(address)
    for table in ("tcp", "tcp6"):
        for row in _lines(Path("/proc/net") / table):
            _, local, _, state, *others = row.split()
            place, _, number = local.partition(":")
            if state == _LISTEN and int(number, 16) == port and _conflict(_decoded(place), wanted):
                yield others[5]


def _lines(table: Path) -> list[str]:
    try:
        return table.read_text().splitlines()[1:]
    except OSError:
        return []  # no IPv6, or no /proc


def _decoded(place: str) -> IPv4Address | IPv6Address:
    words = (int(place[at : at + _WORD], 16) for at in range(0, len(place), _WORD))
    address = ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    return getattr(address, "ipv4_mapped", None) or address


def _conflict(one: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address) -> bool:
    return one == other or one.is_unspecified or other.is_unspecified


def _processes() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _sockets(process: Path) -> set[str]:
    """The inodes of the sockets that a process has open; none when it is gone or not ours to look at."""
    try:
        descriptors = os.listdir(process / "fd")
    except OSError:
        return set()
    matches = (_SOCKET.fullmatch(_target(process / "fd" / each)) for each in descriptors)
    return {match[1] for match in matches if match}


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""  # closed since: at least the one that listed the folder, when the process is this one


def _name(process: Path) -> str:
    try:
        return excerpt((process / "comm").read_text(errors="replace").rstrip("\n"))
    except OSError:
        return "a process that has just ended"
