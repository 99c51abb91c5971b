"""The ceilings of connections: one `Admission` for all listeners of a program that accept connections.

A connection beyond a ceiling is reset at once, and counted by cause. So is one of a source with a penalty
(`relay.listener.admission.penalties`). Neither the ceiling of an address nor penalties apply to the exempt networks.

Before a newcomer is refused at a ceiling, another connection makes room: the oldest that has sent nothing, or else the
oldest that has not proven itself, each after a moment in which it could. Before the login those of a crowd come first.
So idle connections keep nobody out.

While the machine or the process has no file descriptor, listeners pause; connections wait in the kernel meanwhile.
`connections` also ends where the process's descriptors would: `descriptors` are those that the caller leaves for
connections, so that the spool and the archive can always open their files.
"""

import enum
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Final, NamedTuple

from relay.listener.admission.early_drop import chance_of_drop
from relay.listener.admission.oldest_first import OldestFirst
from relay.listener.admission.penalties import Penalties, SenderFault
from relay.listener.admission.refusal_log import RefusalLog
from relay.listener.admission.standing import Standing
from relay.system.minute_log import MINUTE, MinuteLog
from relay.values.address import LOOPBACK, is_in, source_of

_log = logging.getLogger(__name__)

SILENT_FOR: Final = 1.0
"""Seconds after which a connection that has sent nothing may make room for another."""
UNPROVEN_FOR: Final = 5.0
"""The same for a connection that has sent something, but has neither logged in nor sent a message."""
CROWDED_FOR: Final = 1.5
"""The same for one that has not logged in, if it belongs to a crowd."""
CROWD: Final = 10
"""So many connections of one source that have not logged in are a crowd."""


class ConnectionLimits(NamedTuple):
    """How many connections are served."""

    connections: int = 10_000
    per_address: int = 1_000
    unauthenticated: int = 100
    """Before the login by SSH, or the end of the handshake by TLS. One source may have half of them."""
    exempt: tuple[IPv4Network | IPv6Network, ...] = LOOPBACK
    """Without a ceiling for one address, and without penalties: all senders behind a tunnel have a loopback address."""


class Refusal(enum.StrEnum):
    """Why a connection is not served: the key that limits it, or another cause."""

    CONNECTIONS = "max-connections"
    PER_ADDRESS = "max-connections-per-address"
    UNAUTHENTICATED = "max-unauthenticated"
    PENALTY = "penalty"
    """Earlier connections of the source have failed."""
    DESCRIPTORS = "descriptors"
    """It is reset, or waits until the process has a descriptor for it."""


def _do_nothing() -> None:
    """In place of a function that breaks a connection off."""


class AdmittedConnection:
    """A connection that counts, until it leaves.

    Its listener calls `heard` when octets arrive, `authenticated` after a login or handshake, `completed` when a
    message is complete, and `leave` at its end. `fault` names why it failed, if that is known.
    """

    __slots__ = (
        *("_admission", "_heard", "_reason", "_verified", "authenticates", "close", "has_completed", "is_exempt"),
        "source",
    )

    def __init__(
        self, admission: "Admission", source: str, close: Callable[[], None], *, authenticates: bool, is_exempt: bool
    ) -> None:
        self._admission: Admission | None = admission
        self.source = source
        self.close = close
        """Breaks the connection off."""
        self.authenticates = authenticates
        self.is_exempt = is_exempt
        """Whether its source has no ceiling and gets no penalty."""
        self.has_completed = False
        """Whether a message was complete on any of its streams."""
        self._heard = self._verified = False
        self._reason: SenderFault | None = None

    @property
    def has_proven_itself(self) -> bool:
        """Whether it is known who the sender is, or a message has come."""
        return self._verified or self.has_completed

    def heard(self) -> None:
        """The peer has sent octets."""
        if not self._heard and self._admission is not None:
            self._heard = True
            self._admission.note_heard(self)

    def authenticated(self, *, verified: bool = True) -> None:
        """It no longer counts as unauthenticated; `verified`: it is known who the sender is."""
        if self._admission is not None:
            had_proven_itself = self.has_proven_itself
            self._verified = self._verified or verified
            self._admission.note_authenticated(self)
            if self.has_proven_itself and not had_proven_itself:
                self._admission.note_proven(self)

    def completed(self) -> None:
        """A message was complete."""
        if not self.has_completed and self._admission is not None:
            had_proven_itself = self.has_proven_itself
            self.has_completed = True
            if not had_proven_itself:
                self._admission.note_proven(self)

    def fault(self, reason: SenderFault) -> None:
        """Why it will end; the first reason counts. None does of a verified sender.

        After a message garbage alone counts, and less than before one: a message costs a stranger nothing.
        """
        self._reason = self._reason or reason

    def move(self, address: str) -> bool:
        """Count it at the address that a proxy names from now on; False if that address is not served."""
        return self._admission is not None and self._admission.move(self, address)

    def leave(self) -> None:
        """It has ended; further calls do nothing."""
        if (admission := self._admission) is not None:
            self._admission = None
            self.close = _do_nothing  # it refers to this object
            admission.note_left(self, self._fault())

    def _fault(self) -> SenderFault | None:
        if self.has_proven_itself:
            is_broken = self._reason is SenderFault.GARBAGE and not self._verified
            return SenderFault.BROKEN_FRAMES if is_broken else None
        if self._reason is not None:
            return self._reason
        if not self._heard:
            return SenderFault.SILENT
        return SenderFault.NO_LOGIN if self.authenticates else None


class Admission:
    """Admits connections up to the `limits`, which may be changed at any time. For the event loop's thread."""

    def __init__(
        self,
        limits: ConnectionLimits | None = None,
        descriptors: int | None = None,
        minute: float = MINUTE,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`chance` returns numbers from 0 up to 1."""
        self.limits = ConnectionLimits() if limits is None else limits
        self.refused: Counter[Refusal] = Counter()
        """By cause, since the start."""
        self.made_room = 0
        """Connections that were broken off for others, since the start."""
        self.connections = 0
        """That are open now."""
        self._by_source: Counter[str] = Counter()  # without those of exempt sources
        self._silent: dict[bool, OldestFirst[AdmittedConnection]] = {False: OldestFirst(), True: OldestFirst()}
        self._unproven: OldestFirst[AdmittedConnection] = OldestFirst()
        self._unauthenticated: OldestFirst[AdmittedConnection] = OldestFirst()
        self._penalties = Penalties()
        self._standing = Standing()
        self._descriptors = descriptors
        self._monotonic = monotonic
        self._chance = chance
        self._refusals = RefusalLog(self._clause, minute)
        self._starved = MinuteLog(self._log_starved, minute)

    @property
    def ceiling(self) -> int:
        """The ceiling of all connections together."""
        return self.limits.connections if self._descriptors is None else min(self.limits.connections, self._descriptors)

    @property
    def unauthenticated(self) -> int:
        """How many open connections have not authenticated yet."""
        return len(self._unauthenticated)

    def admit(
        self,
        address: str,
        *,
        authenticates: bool = False,
        close: Callable[[], None] = _do_nothing,
        is_proxy: bool = False,
    ) -> AdmittedConnection | None:
        """Admit a connection from an IP address, or from this machine (""); None when it is refused.

        `close` breaks the connection off when another one needs its place. A proxy has no ceiling and no penalty of its
        own; `AdmittedConnection.move` counts the connection at the sender's address.
        """
        now, source = self._monotonic(), source_of(address)
        is_exempt = is_proxy or not address or is_in(address, self.limits.exempt)
        cause = None if is_exempt else self._refusal_of(source, now, authenticates=authenticates)
        if cause is None and self.connections >= self.ceiling and not self._make_room(now, None):
            cause = Refusal.CONNECTIONS
        if cause is None and authenticates and self._is_dropped_early(now):
            cause = Refusal.UNAUTHENTICATED
        if cause is not None:
            self._refuse(cause, source)
            return None
        connection = AdmittedConnection(self, source, close, authenticates=authenticates, is_exempt=is_exempt)
        self.connections += 1
        self._add(connection, now)
        self._silent[authenticates].add(connection, source, now)
        return connection

    def _refusal_of(self, source: str, now: float, *, authenticates: bool) -> Refusal | None:
        """Why a connection of that source is refused because of others of the source."""
        if self._penalties.refuses(source, now) and not self._standing.lets_pass(source, now):
            return Refusal.PENALTY
        if self._by_source[source] >= self.limits.per_address and not self._make_room(now, source):
            return Refusal.PER_ADDRESS
        if not authenticates or self._unauthenticated.number_of(source) < max(1, self.limits.unauthenticated // 2):
            return None
        return None if self._make_room_for_login(now, source) else Refusal.UNAUTHENTICATED

    def _is_dropped_early(self, now: float) -> bool:
        if self._chance() >= chance_of_drop(len(self._unauthenticated), self.limits.unauthenticated):
            return False
        crowd = self._unauthenticated.number_of(self._unauthenticated.largest_source())
        return not self._make_room_for_login(now, None, CROWDED_FOR if crowd >= CROWD else UNPROVEN_FOR)

    def _make_room(self, now: float, source: str | None) -> bool:
        """Break off one connection, of that source if one is named; False if none may be broken off."""
        silent = self._silent[False].oldest(now - SILENT_FOR, source) or self._silent[True].oldest(
            now - SILENT_FOR, source
        )
        return self._break_off(silent or self._unproven.oldest(now - UNPROVEN_FOR, source))

    def _make_room_for_login(self, now: float, source: str | None, unproven_for: float = UNPROVEN_FOR) -> bool:
        """The same among unauthenticated connections; of the source with the most if none is named."""
        silent = self._silent[True].oldest(now - SILENT_FOR, source)
        crowd = self._unauthenticated.largest_source() if source is None else source
        return self._break_off(silent or self._unauthenticated.oldest(now - unproven_for, crowd))

    def _break_off(self, connection: AdmittedConnection | None) -> bool:
        if connection is None:
            return False
        self.made_room += 1
        close = connection.close
        connection.leave()
        close()
        return True

    # --- Called by admitted connections ---

    def note_heard(self, connection: AdmittedConnection) -> None:
        """It has sent something."""
        self._silent[connection.authenticates].discard(connection, connection.source)

    def note_authenticated(self, connection: AdmittedConnection) -> None:
        """It has logged in, or completed its handshake."""
        self._unauthenticated.discard(connection, connection.source)

    def note_proven(self, connection: AdmittedConnection) -> None:
        """It is known who the sender is, or a message has come."""
        self._unproven.discard(connection, connection.source)
        self._standing.begin(connection.source)

    def move(self, connection: AdmittedConnection, address: str) -> bool:
        """Count a connection, which has not proven itself, at another address; False if that is not served."""
        now, source = self._monotonic(), source_of(address)
        is_exempt = not address or is_in(address, self.limits.exempt)
        is_pending = connection in self._unauthenticated
        if not is_exempt and (cause := self._refusal_of(source, now, authenticates=is_pending)) is not None:
            self._refuse(cause, source)
            return False
        self._discard(connection)
        connection.source, connection.is_exempt = source, is_exempt
        self._add(connection, now)
        if not is_pending:
            self.note_authenticated(connection)
        return True

    def note_left(self, connection: AdmittedConnection, fault: SenderFault | None) -> None:
        """It has ended, with a fault of the sender."""
        now = self._monotonic()
        self.connections -= 1
        self._discard(connection)
        if connection.has_proven_itself:
            self._standing.end(connection.source, now)
        if fault is not None and not connection.is_exempt:
            self._penalties.add(connection.source, fault, now)

    def _add(self, connection: AdmittedConnection, now: float) -> None:
        self._by_source[connection.source] += not connection.is_exempt
        self._unproven.add(connection, connection.source, now)
        if connection.authenticates:
            self._unauthenticated.add(connection, connection.source, now)

    def _discard(self, connection: AdmittedConnection) -> None:
        source = connection.source
        self._by_source[source] -= not connection.is_exempt
        if not self._by_source[source]:
            del self._by_source[source]
        for ordered in (self._silent[connection.authenticates], self._unproven, self._unauthenticated):
            ordered.discard(connection, source)

    # --- The log ---

    def _refuse(self, cause: Refusal, source: str) -> None:
        self.refused[cause] += 1
        self._refusals.count(cause, source)

    def starved(self) -> None:
        """Called by a listener that cannot accept, or must not, because descriptors are short."""
        self.refused[Refusal.DESCRIPTORS] += 1
        self._starved.count(Refusal.DESCRIPTORS)

    def close(self) -> None:
        """Log what is counted and not logged yet."""
        self._refusals.close()
        self._starved.close()

    def _clause(self, cause: str) -> str:
        limits = self.limits
        if cause == Refusal.PENALTY:
            return "because earlier ones failed (penalty)"
        if cause == Refusal.CONNECTIONS and self.ceiling < limits.connections:
            return f"beyond the {self.ceiling} for which this process has file descriptors (LimitNOFILE, ulimit -n)"
        values = {
            Refusal.CONNECTIONS: limits.connections,
            Refusal.PER_ADDRESS: limits.per_address,
            Refusal.UNAUTHENTICATED: limits.unauthenticated,
        }
        return f"beyond {cause} = {values[Refusal(cause)]}"

    def _log_starved(self, _: Mapping[str, int]) -> None:
        _log.warning(
            "no file descriptor for a new connection: %d are open, further ones wait or are reset; raise LimitNOFILE "
            "in the unit (ulimit -n), or lower max-connections",
            self.connections,
        )
