"""Which events the archive holds: the numbers seen of each originator, run and type. Pure.

An event that came in parts (`relayPart="2/5"`) is remembered part by part until it is complete, then as its number
alone. Each sender has a memory of its own, also of a run that others send too: what they send neither resets its parts
nor makes it forgotten. A number is seen when any of them has sent it; then the stored octets decide (`repetitions`).

Ceilings are in octets of memory, estimated: `max_octets` in all, half of that for all unverified senders together, and
`max_sender_octets` for one sender, so that a sender that invents identities makes the archive forget only its own. At a
ceiling the longest untouched run and type is forgotten, or the lowest numbers where one run and type has nearly all.
Above a ceiling of several senders, those that have most are cut to one level; the unverified never cost a verified one
its share of the other half. Of one run and type the first `MAX_HOLDERS` unverified senders are remembered. What is
forgotten can be stored twice but is never lost; `forgotten` counts it.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.archive.identity import Intervals, SequenceKey
from relay.archive.writer.charged_sender import described, is_verified

MAX_OCTETS: Final = 32 * 1024 * 1024
MAX_SENDER_OCTETS: Final = 8 * 1024 * 1024
KEY_OCTETS: Final = 700
INTERVAL_OCTETS: Final = 96
PART_OCTETS: Final = 700
MAX_HOLDERS: Final = 8
"""A message is compared with each of them, and datagrams can have any number of invented addresses."""
_LEFT: Final = 7 / 8
"""What remains of a ceiling of several senders when it was reached."""
_AT_ONCE: Final = 1000
"""Keys in one `SeenMarks` of `all`."""


class MessagePart(NamedTuple):
    """One part of a numbered event that is not complete."""

    key: SequenceKey
    number: int
    part: int
    parts: int
    sender: str = ""


class SeenNumbers(NamedTuple):
    """Whole numbers as (first, last) intervals."""

    key: SequenceKey
    spans: tuple[tuple[int, int], ...]
    sender: str = ""


class SeenMarks(NamedTuple):
    """What became seen."""

    numbers: tuple[SeenNumbers, ...] = ()
    parts: tuple[MessagePart, ...] = ()


class _SenderShare:
    """What is charged to one sender."""

    __slots__ = ("is_verified", "keys", "new", "octets", "partial", "sender", "split")

    def __init__(self, sender: str) -> None:
        self.sender = sender
        self.is_verified = is_verified(sender)
        self.octets = 0
        self.keys: dict[SequenceKey, Intervals] = {}
        """The longest untouched first."""
        self.new: dict[SequenceKey, Intervals] = {}
        """What became seen since the last `take`."""
        self.partial: dict[tuple[SequenceKey, int], tuple[int, int]] = {}
        """Key and number → parts, and a bitmap of those that came; the longest begun first."""
        self.split: dict[SequenceKey, set[int]] = {}
        """The numbers of each key that are in `partial`."""

    def begin_parts(self, key: SequenceKey, number: int, parts: int, came: int) -> None:
        """Note which parts of a number came."""
        self.partial[key, number] = (parts, came)
        self.split.setdefault(key, set()).add(number)

    def end_parts(self, key: SequenceKey, number: int) -> bool:
        """Forget the parts of a number; False when it has none."""
        if self.partial.pop((key, number), None) is None:
            return False
        numbers = self.split[key]
        numbers.discard(number)
        if not numbers:
            del self.split[key]
        return True


class SeenIdentities:
    """All that was seen, and what became seen since the last `take`."""

    def __init__(self, *, max_octets: int = MAX_OCTETS, max_sender_octets: int = MAX_SENDER_OCTETS) -> None:
        self.forgotten = 0
        self.last_forgotten = ""
        """The sender whose identities were forgotten last."""
        self.octets = 0
        """Estimated memory."""
        self._unverified_octets = 0
        self._max_octets = max_octets
        self._max_sender_octets = max_sender_octets
        self._senders: dict[str, _SenderShare] = {}
        self._holders: dict[SequenceKey, dict[str, _SenderShare]] = {}
        """Who has sent messages of a run and type."""
        self._changed: dict[str, _SenderShare] = {}
        """Shares in which something is new since the last `take`."""
        self._new_parts: list[MessagePart] = []

    def add(self, key: SequenceKey, number: int, part: int = 1, parts: int = 1, sender: str = "") -> bool:
        """Mark as seen; False when it was seen before, from any sender."""
        holders = self._holders.get(key)
        share = holders.get(sender) if holders is not None else None
        if share is None:
            share = self._share(key, sender)
            holders = self._holders[key]
        is_known = holders is not None and len(holders) > 1 and self._is_known_from_others(key, number, sender)
        if share is None:
            return not is_known
        numbers = share.keys[key]
        if parts != 1:
            is_new = number not in numbers and self._add_part(share, MessagePart(key, number, part, parts, sender))
            return is_new and not is_known
        new = share.new.get(key)
        if new is not None and not share.partial and numbers.follow(number):  # nearly every message
            if not new.follow(number):
                new.add(number)
            return not is_known
        before = len(numbers)
        if not numbers.add(number):
            return False
        self._finish(share, key, number)
        if len(numbers) != before:
            self._charge(share, (len(numbers) - before) * INTERVAL_OCTETS, key)
        return not is_known

    def has_none_of(self, key: SequenceKey, first: int, last: int) -> bool:
        """Whether `add` would certainly be True for each number from `first` to `last`."""
        holders = self._holders.get(key)
        return holders is None or not any(
            share.partial or share.keys[key].overlapping(first, last) for share in holders.values()
        )

    def _is_known_from_others(self, key: SequenceKey, number: int, sender: str) -> bool:
        return any(number in share.keys[key] for name, share in self._holders[key].items() if name != sender)

    def add_all(self, key: SequenceKey, first: int, last: int, sender: str = "") -> None:
        """Mark `first` to `last` as seen."""
        share = self._share(key, sender)
        if share is None:
            return
        numbers = share.keys[key]
        before = len(numbers)
        numbers.add_all(first, last)
        self._new_of(share, key).add_all(first, last)
        self._charge(share, (len(numbers) - before) * INTERVAL_OCTETS, key)

    def restore(self, marks: SeenMarks) -> None:
        """Take in what an earlier `take` or `all` gave; it is not new."""
        for key, spans, sender in marks.numbers:
            for first, last in spans:
                self.add_all(key, first, last, sender)
            share = self._holders.get(key, {}).get(sender)
            if share is not None:
                share.keys[key] = share.keys.pop(key)
        for part in marks.parts:
            self.add(*part)
        self.take()

    def take(self) -> SeenMarks:
        """What became seen since the last call."""
        numbers: list[SeenNumbers] = []
        for share in self._changed.values():
            for key, intervals in share.new.items():
                numbers.append(SeenNumbers(key, tuple(intervals), share.sender))
                share.keys[key] = share.keys.pop(key)
            share.new = {}
        marks = SeenMarks(tuple(numbers), tuple(self._new_parts))
        self._changed = {}
        self._new_parts = []
        return marks

    def all(self) -> Iterator[SeenMarks]:
        """Everything in pieces, for a new beginning of a journal; of each sender the longest untouched first."""
        numbers: list[SeenNumbers] = []
        for share in self._senders.values():
            for key, intervals in share.keys.items():
                if intervals:
                    numbers.append(SeenNumbers(key, tuple(intervals), share.sender))
                if len(numbers) >= _AT_ONCE:
                    yield SeenMarks(tuple(numbers))
                    numbers = []
        parts = [
            MessagePart(key, number, part, parts, share.sender)
            for share in self._senders.values()
            for (key, number), (parts, came) in share.partial.items()
            for part in range(1, parts + 1)
            if came >> part & 1
        ]
        yield SeenMarks(tuple(numbers), tuple(parts))

    def _share(self, key: SequenceKey, sender: str) -> _SenderShare | None:
        """The sender's share, with this key in it; None: too many unverified senders have the key already."""
        holders = self._holders.setdefault(key, {})
        if sender in holders:
            return holders[sender]
        share = self._senders.get(sender) or _SenderShare(sender)
        if not share.is_verified and sum(not each.is_verified for each in holders.values()) >= MAX_HOLDERS:
            return None
        self._senders[sender] = holders[sender] = share
        share.keys[key] = Intervals()
        self._charge(share, KEY_OCTETS, key)
        return share

    def _new_of(self, share: _SenderShare, key: SequenceKey) -> Intervals:
        """What of a key became seen since the last `take`."""
        new = share.new.get(key)
        if new is None:
            new = share.new[key] = Intervals()
            self._changed[share.sender] = share
        return new

    def _finish(self, share: _SenderShare, key: SequenceKey, number: int) -> None:
        """Note that a number is complete."""
        self._new_of(share, key).add(number)
        if share.partial and share.end_parts(key, number):
            self._charge(share, -PART_OCTETS, key)

    def _add_part(self, share: _SenderShare, mark: MessagePart) -> bool:
        place = (mark.key, mark.number)
        known = share.partial.get(place)
        parts, came = known or (mark.parts, 0)
        if parts != mark.parts:  # split anew, at another limit: the old parts say nothing about the new ones
            came = 0
        if came >> mark.part & 1:
            return False
        came |= 1 << mark.part
        if came.bit_count() == mark.parts:
            numbers = share.keys[mark.key]
            before = len(numbers)
            numbers.add(mark.number)
            self._finish(share, mark.key, mark.number)
            self._charge(share, (len(numbers) - before) * INTERVAL_OCTETS, mark.key)
            return True
        share.begin_parts(mark.key, mark.number, mark.parts, came)
        self._new_parts.append(mark)
        if known is None:
            self._charge(share, PART_OCTETS, mark.key)
        return True

    # --- Ceilings ---

    def _charge(self, share: _SenderShare, octets: int, key: SequenceKey) -> None:
        """Count the memory of a change to `key`, which is not forgotten itself."""
        self._count(share, octets)
        if share.octets > self._max_sender_octets:
            self._shrink(share, self._max_sender_octets, key)
        if self._unverified_octets > self._max_octets // 2:
            self._level(key, self._max_octets // 2, are_verified=False)
        if self.octets > self._max_octets:
            self._level(key, self._max_octets - self._unverified_octets, are_verified=True)

    def _level(self, key: SequenceKey, ceiling: int, *, are_verified: bool) -> None:
        """Cut the senders of one kind that have most to one level, so that `_LEFT` of the ceiling remains."""
        shares = [share for share in self._senders.values() if share.is_verified is are_verified]
        total, left, level = sum(share.octets for share in shares), ceiling * _LEFT, 0.0
        sizes = sorted(share.octets for share in shares)
        for index, size in enumerate(sizes):
            level = left / (len(sizes) - index)
            if size > level:
                break
            left -= size
        for share in shares:
            if share.octets > level:
                total -= share.octets
                self._shrink(share, int(level), key)
                total += share.octets
        for share in shares:  # very many senders with one key each
            if total <= ceiling * _LEFT:
                break
            total -= share.octets
            self._shrink(share, 0, key)
            total += share.octets

    def _shrink(self, share: _SenderShare, limit: int, keep: SequenceKey) -> None:
        """Forget what this sender touched longest ago."""
        while share.octets > limit and share.keys:
            if share.partial and len(share.partial) * PART_OCTETS * 2 > share.octets:
                share.end_parts(*next(iter(share.partial)))
                self._forget(share, PART_OCTETS)
                continue
            oldest = next(iter(share.keys))
            if oldest == keep and len(share.keys) > 1:
                share.keys[keep] = share.keys.pop(keep)
                oldest = next(iter(share.keys))
            if oldest != keep:
                self._forget_key(share, oldest)
            elif len(numbers := share.keys[keep]) > 1:
                dropped = max(len(numbers) // 8, 1)
                numbers.forget_lowest(dropped)
                self._forget(share, dropped * INTERVAL_OCTETS, dropped)
            else:
                break
        if not share.keys:
            self._senders.pop(share.sender, None)

    def _forget_key(self, share: _SenderShare, key: SequenceKey) -> None:
        numbers = share.keys.pop(key)
        holders = self._holders[key]
        del holders[share.sender]
        if not holders:
            del self._holders[key]
        share.new.pop(key, None)  # else one commit could collect any number of keys
        for number in tuple(share.split.get(key, ())):
            share.end_parts(key, number)
            self._forget(share, PART_OCTETS)
        self._forget(share, KEY_OCTETS + len(numbers) * INTERVAL_OCTETS)

    def _forget(self, share: _SenderShare, octets: int, count: int = 1) -> None:
        self._count(share, -octets)
        self.forgotten += count
        self.last_forgotten = described(share.sender)

    def _count(self, share: _SenderShare, octets: int) -> None:
        share.octets += octets
        self.octets += octets
        if not share.is_verified:
            self._unverified_octets += octets
