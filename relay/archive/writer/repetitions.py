"""What becomes of a message whose identity was seen before: its octets are compared with the stored ones.

- Equal, also if only `relayPart` or `truncated` differ: it is dropped. This is what a sender repeats that did not get
  its answer.
- Different: both are kept and the new one is marked `differs`. So a forged identity never makes the archive drop the
  event that has it by right.
- Retention has removed the stored one, which came from the same sender: it is dropped, and counted.
- The number is complete, and this is a part of another split of it, or the whole: it is dropped if the stored one came
  from the same sender.
- Otherwise the stored octets cannot be read, or the sender is beyond its budget: it is kept and marked `uncompared`.

One read of an extent serves a run of repetitions. Memory: one extent's messages, and `stored_identities`.
"""

import enum
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from relay.archive.layout import ASIDE
from relay.archive.log_line import unescape
from relay.archive.reading.line_search import message_of_json
from relay.archive.reading.log_octets import open_day
from relay.archive.writer.extent_draft import ExtentDraft
from relay.archive.writer.stored_identities import StoredIdentities, StoredPlace
from relay.errors import DataError, NoInputError, StorageError
from relay.syslog import rfc5424
from relay.syslog.rfc5424 import Identity
from relay.system.disk import Disk
from relay.values.provenance import Provenance

BUDGET: Final = 64 * 1024 * 1024
"""Octets that may be read at once for one sender's repetitions."""
REFILL: Final = 4 * 1024 * 1024
"""Octets a second."""
BUDGET_OF_ALL: Final = 4 * BUDGET
"""The same for all senders together of which nothing is verified: their addresses may be invented."""
EARNED: Final = 3
"""Octets that may be read for each octet that is repeated; a run of repetitions in order needs about one."""
MAX_SENDERS: Final = 1024
MAX_VERSIONS: Final = 4
"""Stored messages with one identity that are looked at."""

_VARIABLE: Final = re.compile(rb' (?:relayPart="[^"]*"|truncated="1")')
_HEAD: Final = 1024
"""relay's own parameters lie within so many octets."""


class Repetition(enum.Enum):
    """What a message is whose identity was seen before."""

    EQUAL = enum.auto()
    REMOVED = enum.auto()
    DIFFERENT = enum.auto()
    UNCOMPARED = enum.auto()


class ComparisonBudget:
    """How many octets may be read for each sender, and for all senders together of which nothing is verified."""

    def __init__(
        self, *, budget: int = BUDGET, of_all: int = BUDGET_OF_ALL, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._budget = budget
        self._budget_of_all = of_all
        self._left_of_all = (float(of_all), clock())
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        """Sender → octets left, and when they were counted; the longest unused first."""

    def earn(self, sender: str, octets: int, *, is_verified: bool = True) -> float:
        """Add what a repetition of that size brings; what is left."""
        now = self._clock()
        left, since = self._left.pop(sender, (float(self._budget), now))
        left = min(left + (now - since) * REFILL + EARNED * octets, float(self._budget))
        self._left[sender] = (left, now)
        if len(self._left) > MAX_SENDERS:
            del self._left[next(iter(self._left))]
        if is_verified:
            return left
        of_all, since = self._left_of_all
        of_all = min(of_all + (now - since) * REFILL + EARNED * octets, float(self._budget_of_all))
        self._left_of_all = (of_all, now)
        return min(left, of_all)

    def spend(self, sender: str, octets: int, *, is_verified: bool = True) -> None:
        """Count what was read; the rest may become negative."""
        left, since = self._left.get(sender, (float(self._budget), self._clock()))
        self._left[sender] = (left - octets, since)
        if not is_verified:
            of_all, counted = self._left_of_all
            self._left_of_all = (of_all - octets, counted)


class Repetitions:
    """Compares repetitions with what is stored."""

    def __init__(self, disk: Disk, archive: str, budget: ComparisonBudget | None = None) -> None:
        self._archive = archive
        self._stored = StoredIdentities(disk, archive)
        self._budget = budget or ComparisonBudget()
        self._extent: tuple[StoredPlace | None, dict[Identity, list[bytes]]] = (None, {})
        """The extent that was read last, and its messages."""

    def judge(
        self,
        folder: str,
        identity: Identity,
        message: bytes,
        provenance: Provenance | None,
        waiting: Iterable[ExtentDraft],
    ) -> Repetition:
        """What a repetition is; `waiting` is what was taken from this originator and is not written yet."""
        sender = "" if provenance is None else provenance.identity or provenance.peer
        differs = False
        for draft in waiting:
            others = draft.messages_with(identity)
            is_split = draft.provenance == provenance and draft.has_another_split(identity)
            if is_split or any(is_same(message, other) for other in others):
                return Repetition.EQUAL
            differs = differs or bool(others)
        last, messages = self._extent
        others = messages.get(identity, []) if last is not None and last.folder == folder else []
        if any(is_same(message, other) for other in others):
            return Repetition.EQUAL
        is_verified = provenance is None or bool(provenance.identity)
        left = self._budget.earn(sender, len(message), is_verified=is_verified)
        before = self._stored.octets_read
        places = self._stored.find((folder, f"{ASIDE}/{folder}"), identity, left)
        verdict = self._compare(places, identity, message, provenance)
        self._budget.spend(sender, self._stored.octets_read - before, is_verified=is_verified)
        return Repetition.DIFFERENT if differs and verdict is not Repetition.EQUAL else verdict

    def _compare(
        self, places: Iterable[StoredPlace], identity: Identity, message: bytes, provenance: Provenance | None
    ) -> Repetition:
        verdict: Repetition | None = None
        sender = ("", None) if provenance is None else (provenance.peer, provenance.identity or None)
        versions = 0
        for place in places:
            if place.split:
                if _is_one_sender(place.sender, sender):
                    return Repetition.EQUAL
                continue
            if place.removed:
                if _is_one_sender(place.sender, sender):
                    verdict = verdict or Repetition.REMOVED
                continue
            versions += 1
            if versions > MAX_VERSIONS:
                break
            stored = self._read(place).get(identity)
            if stored is None:
                verdict = Repetition.UNCOMPARED if verdict is not Repetition.DIFFERENT else verdict
            elif any(is_same(message, other) for other in stored):
                return Repetition.EQUAL
            else:
                verdict = Repetition.DIFFERENT
        return verdict or Repetition.UNCOMPARED

    def _read(self, place: StoredPlace) -> dict[Identity, list[bytes]]:
        """The messages of an extent, by their identities; empty when it cannot be read."""
        if self._extent[0] == place:
            return self._extent[1]
        data = b""
        with suppress(NoInputError, StorageError, DataError):
            log = open_day(f"{self._archive}/{place.folder}", place.day)
            try:
                data = log.read(place.off, place.len)
            finally:
                log.close()
        self._stored.octets_read += place.len
        decoded = message_of_json if any(".jsonl" in name for name in place.day.logs) else unescape
        found: dict[Identity, list[bytes]] = {}
        for line in data[:-1].split(b"\n"):
            message = decoded(line)
            identity = rfc5424.identity(message)
            if identity is not None:
                found.setdefault(identity, []).append(message)
        self._extent = (place, found)
        return found


def _is_one_sender(sender: tuple[str, str | None], other: tuple[str, str | None]) -> bool:
    """Whether what was verified is equal, or where nothing was, the address."""
    return sender[1] == other[1] and (sender[1] is not None or sender[0] == other[0])


def is_same(message: bytes, other: bytes) -> bool:
    """Whether two messages differ in nothing but the parameters that a server's limit changes."""
    if message == other:
        return True
    if abs(len(message) - len(other)) > _HEAD:
        return False
    return _without_variable(message) == _without_variable(other)


def _without_variable(message: bytes) -> bytes:
    return _VARIABLE.sub(b"", message[:_HEAD]) + message[_HEAD:]
