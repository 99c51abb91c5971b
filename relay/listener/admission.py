"""The ceilings of connections: one `Admission` for all listeners of a program that accept connections.

A connection beyond a ceiling is reset at once, and counted by cause. While the machine or the process has no file
descriptor, listeners pause; connections wait in the kernel meanwhile. One log line a minute has the counts.

`connections` also ends where the process's descriptors would: `descriptors` are those that the caller leaves for
connections, so that the spool and the archive can always open their files.
"""

import enum
import logging
from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

from relay.system.minute_log import MINUTE, MinuteLog
from relay.values.text import counted

_log = logging.getLogger(__name__)


class ConnectionLimits(NamedTuple):
    """How many connections are served."""

    connections: int = 10_000
    per_address: int = 1_000
    unauthenticated: int = 100
    """Before the login by SSH, or the end of the handshake by TLS. One address may have half of them."""
    loopback_exempt: bool = True
    """Whether `per_address` does not apply to loopback: all senders behind a tunnel have that address."""


class Refusal(enum.StrEnum):
    """Why a connection is not served: the key that limits it."""

    CONNECTIONS = "max-connections"
    PER_ADDRESS = "max-connections-per-address"
    UNAUTHENTICATED = "max-unauthenticated"
    DESCRIPTORS = "descriptors"
    """Not refused: it waits until the process has a descriptor for it."""


class AdmittedConnection:
    """A connection that counts, until it leaves."""

    __slots__ = ("_address", "_admission", "_key", "_pending")

    def __init__(self, admission: "Admission", key: str, *, pending: bool) -> None:
        self._admission: Admission | None = admission
        self._key = key
        self._address = key
        self._pending = pending

    def authenticated(self) -> None:
        """It no longer counts as unauthenticated."""
        if self._pending and self._admission is not None:
            self._pending = False
            self._admission.forget_unauthenticated(self._address)

    def move(self, address: str) -> bool:
        """Count it at the address that a proxy names from now on; False if that address has too many."""
        if (admission := self._admission) is None:
            return False
        admission.forget_address(self._key)
        key = admission.count_address(address)
        self._key = key or ""
        if key is None:
            return False
        if self._pending:
            if not admission.move_unauthenticated(self._address, key):
                return False
            self._address = key
        return True

    def leave(self) -> None:
        """It has ended; further calls do nothing."""
        if (admission := self._admission) is not None:
            self.authenticated()
            self._admission = None
            admission.connections -= 1
            admission.forget_address(self._key)


class Admission:
    """Admits connections up to the `limits`, which may be changed at any time. For the event loop's thread."""

    def __init__(
        self, limits: ConnectionLimits | None = None, descriptors: int | None = None, minute: float = MINUTE
    ) -> None:
        self.limits = ConnectionLimits() if limits is None else limits
        self.refused: Counter[Refusal] = Counter()
        """By cause, since the start."""
        self.connections = 0
        """That are open now."""
        self.unauthenticated = 0
        """Of these, how many have not authenticated yet."""
        self._unauthenticated_at: Counter[str] = Counter()
        self._descriptors = descriptors
        self._by_address: Counter[str] = Counter()
        self._last_refused = ""
        self._line = MinuteLog(self._write, minute)

    @property
    def ceiling(self) -> int:
        """The ceiling of all connections together."""
        return self.limits.connections if self._descriptors is None else min(self.limits.connections, self._descriptors)

    def admit(self, address: str, *, authenticates: bool = False) -> AdmittedConnection | None:
        """Admit a connection from an IP address, or from this machine ("") ; None when it is refused."""
        if self.connections >= self.ceiling:
            self._refuse(Refusal.CONNECTIONS, address)
            return None
        is_full = self.unauthenticated >= self.limits.unauthenticated
        if authenticates and (is_full or self._has_half_of_unauthenticated(address)):  # one must not keep others out
            self._refuse(Refusal.UNAUTHENTICATED, address)
            return None
        if (key := self.count_address(address)) is None:
            return None
        self.connections += 1
        if authenticates:
            self.unauthenticated += 1
            self._unauthenticated_at[key] += 1
        return AdmittedConnection(self, key, pending=authenticates)

    def _has_half_of_unauthenticated(self, address: str) -> bool:
        return self._unauthenticated_at[address] >= max(1, self.limits.unauthenticated // 2)

    def move_unauthenticated(self, former: str, key: str) -> bool:
        """Count an unauthenticated connection at another address; False, and no change, if that has too many."""
        if key and self._has_half_of_unauthenticated(key):
            self._refuse(Refusal.UNAUTHENTICATED, key)
            return False
        _decrease(self._unauthenticated_at, former)
        self._unauthenticated_at[key] += 1
        return True

    def forget_unauthenticated(self, key: str) -> None:
        """Called by a connection that is authenticated, or leaves before."""
        self.unauthenticated -= 1
        _decrease(self._unauthenticated_at, key)

    def count_address(self, address: str) -> str | None:
        """Count a connection of an address. Returns its key, "" without a ceiling, None if it has too many."""
        if not address or (self.limits.loopback_exempt and is_loopback(address)):
            return ""
        if self._by_address[address] >= self.limits.per_address:
            self._refuse(Refusal.PER_ADDRESS, address)
            return None
        self._by_address[address] += 1
        return address

    def forget_address(self, key: str) -> None:
        """Count it no longer."""
        if key:
            _decrease(self._by_address, key)

    def _refuse(self, cause: Refusal, address: str) -> None:
        self.refused[cause] += 1
        self._last_refused = address
        self._line.count(cause)

    def starved(self) -> None:
        """Called by a listener that cannot accept, because there is no descriptor."""
        self.refused[Refusal.DESCRIPTORS] += 1
        self._line.count(Refusal.DESCRIPTORS)

    def close(self) -> None:
        """Log what is counted and not logged yet."""
        self._line.close()

    def _write(self, counts: Mapping[str, int]) -> None:
        all_of_them = f"{Refusal.CONNECTIONS} = {self.limits.connections}"
        if self.ceiling < self.limits.connections:
            all_of_them = f"the {self.ceiling} for which this process has file descriptors (LimitNOFILE, ulimit -n)"
        ceilings = {
            Refusal.CONNECTIONS: all_of_them,
            Refusal.PER_ADDRESS: f"{Refusal.PER_ADDRESS} = {self.limits.per_address}",
            Refusal.UNAUTHENTICATED: f"{Refusal.UNAUTHENTICATED} = {self.limits.unauthenticated}",
        }
        beyond = [f"{counts[key]} beyond {ceiling}" for key, ceiling in ceilings.items() if counts.get(key)]
        if beyond:
            refused = counted(sum(counts.get(key, 0) for key in ceilings), "connection")
            last = f", the last from {self._last_refused}" if self._last_refused else ""
            _log.warning(
                "%s refused: %s%s; %d are open; close idle ones, or raise the ceiling",
                *(refused, ", ".join(beyond), last, self.connections),
            )
        if counts.get(Refusal.DESCRIPTORS):
            _log.warning(
                "no file descriptor for a new connection: %d are open, further ones wait; raise LimitNOFILE in the "
                "unit (ulimit -n), or lower max-connections",
                self.connections,
            )


def _decrease(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


_LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "::1"})


def is_loopback(address: str) -> bool:
    """Whether an IP address is this machine's own; also where IPv6 wraps an IPv4 address."""
    if address in _LOOPBACK_NAMES:
        return True
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback
