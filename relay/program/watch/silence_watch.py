"""Which originators of the receiver are silent: relays without heartbeats, and those that `[[receiver.expect]]` names.

Only receipt counts, never a sender's clock. Time is measured by a clock of this watch, in seconds. It stands still
while nothing can arrive at the archive: while relay accepts nothing, while the archive is behind or fails, and while
relay does not run or is suspended. So none of these is mistaken for the silence of all senders, and a restart neither
forgets a silence nor begins its time anew: `recall` continues from what the archive's newest ledgers say. After a start
senders get `SETTLING` seconds to come back before a new silence counts.

An event of relay's own (they come once a minute, at least) makes an originator a relay. A relay that has been silent
for `FORGOTTEN` seconds is not watched any more, because it may be gone for good; an expected originator is watched for
ever. Messages under a disputed name prove nothing.

Senders of one name (`proven_sender`) never silence each other: each verified one must go on by itself, and what
unverified ones send does not count beside it. Where all are unverified, the sentences have that word.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from relay.archive.filing.bound_names import BoundNames, NameBinding
from relay.archive.filing.proven_sender import proven_sender
from relay.archive.layout import ASIDE, DISPUTED
from relay.archive.ledger import Extent
from relay.archive.reading.ledger_tail import OWN_TYPE
from relay.archive.reading.originator_report import OriginatorReport
from relay.values.configuration.expect_settings import ReceiverExpect
from relay.values.duration import duration_text
from relay.values.glob_matcher import glob_matcher

HEARTBEATS_MISSED: Final = 3 * 60.0 + 15.0
"""Three heartbeats, and the time that one may need to arrive."""
SETTLING: Final = 120.0
FORGOTTEN: Final = 7 * 86_400.0
BEHIND_SECONDS: Final = 10.0
"""How long the archive may need for what is in the spool."""
LONGEST_STEP: Final = 5.0
"""Between two looks; a longer time is one in which relay was suspended."""
MOST_ORIGINATORS: Final = 20_000
MOST_SENDERS: Final = 8
"""Verified senders of one name; of more, those that were silent for longest are forgotten."""
_UNVERIFIED: Final = ""
_ASIDE: Final = f"{ASIDE}/"
_MICROSECONDS: Final = 1_000_000


class Silence(NamedTuple):
    """An originator, or a pattern, of which nothing comes."""

    about: str
    """The originator's folder, or the pattern that matches none."""
    text: str
    settled: bool
    """False: it counts only if it was known before the start, because senders may just be coming back."""


class Silences(NamedTuple):
    """The result of a look."""

    originators: Sequence[Silence] = ()
    patterns: Sequence[Silence] = ()
    """Expectations that no originator matches."""
    recalled: bool = False
    """Whether the archive's originators are known; before that nobody can be judged."""
    known: int = 0
    """Originators."""
    unverified: int = 0
    """Relays of which no sender is verified."""
    contested: int = 0
    """Relays with several verified senders."""
    aside: Sequence[str] = ()
    """Originators whose folder cannot be written, so that their newest messages are elsewhere."""


class OriginatorCounts(NamedTuple):
    """How many originators the receiver knows."""

    known: int
    silent: int
    unverified: int
    """Relays of which no sender is verified."""
    contested: int
    """Relays with several verified senders."""


class ArchiveProgress(NamedTuple):
    """How far the archive is."""

    reached: tuple[int, ...]
    """The next blocks to be archived."""
    ends: tuple[int, ...]
    """The next blocks of the spools."""
    hindered: bool
    """Whether relay accepts nothing, or the archive has an error."""


@dataclass(slots=True)
class _Presence:
    """When an originator was last heard, by the watch's clock, from each of its senders."""

    seen: dict[str, float] = field(default_factory=dict)
    own: dict[str, float] = field(default_factory=dict)
    """An event of relay's own."""

    def note(self, sender: str, seen: float, own: float | None) -> None:
        """Note that a sender was heard then."""
        for known, at in ((self.seen, seen), (self.own, own)):
            if at is not None:
                known[sender] = max(known.get(sender, at), at)
            verified = [each for each in known if each]
            if len(verified) > MOST_SENDERS:
                del known[min(verified, key=known.__getitem__)]

    def counted(self, known: dict[str, float], now: float) -> dict[str, float]:
        """Those of the senders that count: verified ones, if there are any that are not forgotten."""
        verified = {sender: at for sender, at in known.items() if sender and now - at < FORGOTTEN}
        return verified or {sender: at for sender, at in known.items() if not sender}


class _Expectation:
    """One pattern of [[receiver.expect]]."""

    def __init__(self, table: ReceiverExpect, pattern: str, since: float) -> None:
        self.table = table
        self.pattern = pattern
        self.matches = glob_matcher([pattern])
        self.since = since
        """When it began, by the watch's clock."""
        self.is_matched = False


class SilenceWatch:
    """Watches all originators; safe to use from several threads."""

    def __init__(self, expected: Sequence[ReceiverExpect] = ()) -> None:
        self._lock = threading.Lock()
        self._present: dict[str, _Presence] = {}
        self._clock = 0.0
        self._looked: int | None = None
        self._caught_up: tuple[tuple[int, ...], float] = ((), 0.0)
        """Blocks that the archive must reach, and when they were the newest."""
        self._elapsed = 0.0
        """Since the first look, also while the clock stands still."""
        self._aside: dict[str, None] = {}
        self._recalled = False
        self._expected: list[_Expectation] = []
        self._names = BoundNames()
        self.expect(expected)

    def bind(self, bindings: Sequence[NameBinding]) -> None:
        """Judge what is heard from now on by these bindings."""
        with self._lock:
            self._names = BoundNames(bindings)

    def expect(self, expected: Sequence[ReceiverExpect]) -> None:
        """Expect these from now on; what was expected before goes on."""
        with self._lock:
            since = {each.pattern: each.since for each in self._expected}
            self._expected = [
                _Expectation(table, pattern, since.get(pattern, self._clock))
                for table in expected
                for pattern in table.originator
            ]

    def note(self, folder: str, extent: Extent) -> None:
        """Note that the archive has committed messages of an originator."""
        is_own = any(each[1] == OWN_TYPE for each in extent.id)
        with self._lock:
            sender = proven_sender(self._names, folder.rpartition("/")[2], extent)
            self._note(folder, sender, self._clock, self._clock if is_own else None)
            name = folder.removeprefix(_ASIDE)
            if name != folder and len(self._aside) < MOST_ORIGINATORS:
                self._aside[name] = None
            else:
                self._aside.pop(name, None)

    def _note(self, folder: str, sender: str, seen: float, own: float | None) -> None:
        name = folder.removeprefix(_ASIDE)
        if name.startswith(f"{DISPUTED}/") or (name not in self._present and len(self._present) >= MOST_ORIGINATORS):
            return
        self._present.setdefault(name, _Presence()).note(sender, seen, own)

    def recall(self, reports: Iterable[OriginatorReport]) -> None:
        """Continue with what the archive knows: the newest receipt of all is when relay was last at work."""
        known = list(reports)
        newest = max((each.received for each in known), default=0)
        with self._lock:
            for each in known:
                if each.received:
                    self._note(each.name, each.sender, (each.received - newest) / _MICROSECONDS, None)
                for sender, received in each.own_senders.items():
                    own = (received - newest) / _MICROSECONDS
                    self._note(each.name, sender, own, own)
            self._recalled = True

    def look(self, boot: int, progress: ArchiveProgress) -> Silences:
        """Who is silent now; `boot` is the boot clock in microseconds. To be called once a second."""
        with self._lock:
            step = 0.0 if self._looked is None else min((boot - self._looked) / _MICROSECONDS, LONGEST_STEP)
            self._looked = boot
            self._elapsed += step
            wanted, since = self._caught_up
            if all(reached >= end for reached, end in zip(progress.reached, wanted, strict=False)):
                since = self._elapsed
                self._caught_up = (progress.ends, since)
            if not (progress.hindered or self._elapsed - since > BEHIND_SECONDS):
                self._clock += step
            aside = tuple(sorted(self._aside))
            if not self._recalled:
                return Silences(aside=aside)
            silent = self._silent_expected() | self._silent_relays()
            relays = [counted for each in self._present.values() if (counted := each.counted(each.own, self._clock))]
            unverified = sum(_UNVERIFIED in each for each in relays)
            contested = sum(len(each) > 1 for each in relays)
            return Silences(
                tuple(silent.values()), self._unmatched(), True, len(self._present), unverified, contested, aside
            )

    def is_heard(self, name: str) -> bool:
        """Whether an originator was heard lately."""
        with self._lock:
            present = self._present.get(name)
            heard = {} if present is None else present.counted(present.seen, self._clock)
            return any(self._clock - at < HEARTBEATS_MISSED for at in heard.values())

    def _silent_relays(self) -> dict[str, Silence]:
        found: dict[str, Silence] = {}
        for name, present in self._present.items():
            heartbeats = present.counted(present.own, self._clock)
            silent = [sender for sender, at in heartbeats.items() if HEARTBEATS_MISSED <= self._clock - at < FORGOTTEN]
            if silent:
                sentence = f"{self._named(name, present, silent)} has missed three heartbeats"
                text = f"{sentence}: it does not run, or cannot reach this machine{self._others(present.own, silent)}"
                found[name] = Silence(name, text, settled=self._clock >= SETTLING)
        return found

    @staticmethod
    def _named(name: str, present: _Presence, silent: Sequence[str]) -> str:
        if silent == [_UNVERIFIED]:
            return f"{name} (unverified)"
        return f"{name} with {' and with '.join(silent)}" if len(present.own) > 1 else name

    def _others(self, known: Mapping[str, float], silent: Sequence[str]) -> str:
        """Which senders use the name of a silent one, because they may hide that it is silent."""
        heard = [sender for sender, at in known.items() if self._clock - at < HEARTBEATS_MISSED]
        named = [sender or "an unverified sender" for sender in heard if sender not in silent]
        return f". Its name is used by {' and '.join(named)}; bind it with [[receiver.originator]]" if named else ""

    def _silent_expected(self) -> dict[str, Silence]:
        found: dict[str, Silence] = {}
        for each in self._expected:
            within = each.table.within
            text, settled = duration_text(within), self._clock >= min(SETTLING, within)
            for name, present in self._present.items():
                heard = present.counted(present.seen, self._clock)
                if self._clock - max(heard.values()) >= within and each.matches(name):
                    sentence = f"{name} sent nothing for {text}, the limit in [[receiver.expect]]"
                    found[name] = Silence(name, f"{sentence}{self._others(present.seen, list(heard))}", settled)
        return found

    def _unmatched(self) -> list[Silence]:
        found = []
        for each in self._expected:
            if each.is_matched or any(map(each.matches, self._present)):
                each.is_matched = True
                continue
            within = each.table.within
            sentence = f"no originator {each.pattern} sent anything for {duration_text(within)}"
            text = f"{sentence}, the limit in [[receiver.expect]]; check the name, or the sender"
            found.append(Silence(each.pattern, text, settled=self._clock - each.since >= within))
        return found
