"""A small spool damaged at one place, for every place: the layout alone determines what the damage costs.

`Specimen.make` writes three segments of 4 KiB in memory. A `Damage` is one flipped bit, or a file that ends too early;
`examine` opens the damaged spool, reads it, appends to it, opens and reads it again, and raises BrokenPromiseError
when it finds anything but this:

- only appended blocks are read, each once and in order;
- a bit of a segment's own header costs nothing; the recovery names the segment;
- a missing block is named by `SpoolDamage`, was in the cut tail, or in a segment that has lost its header and blocks;
- what `SpoolDamage` names is counted by type and number, exactly, once events of each type follow;
- a cut tail is reported in octets, and its copy holds them; nothing is cut elsewhere;
- blocks appended afterwards are read back, also after another opening, and so are the blocks that were readable before;
- a file that was left alone keeps its octets, if necessary under another name.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from harness.bad_days import BrokenPromiseError
from harness.fake_disk import FakeDisk
from relay.errors import RelayError
from relay.spool import block
from relay.spool.block import Contents, Span
from relay.spool.losses.gap import LostRange
from relay.spool.segments import segment
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.spool import BAD, RunSeed, Spool
from relay.spool.spool_reader import SpoolReader
from relay.values.event import EventType, Position

FOLDER: Final = "/spool"
SEGMENT_SIZE: Final = 4096
SEGMENTS: Final = 3
BITS: Final = 8
_RUN: Final = RunSeed(b"run00001", b"0123456789abcdef")
_LARGE, _SMALL = 2000, 1  # octets of a message: the large one needs a new segment
_ALL_KINDS: Final = (EventType.AUDIT, EventType.SECURITY, EventType.AUDIT)


class Place(NamedTuple):
    """Where a block of the specimen is."""

    segment: int
    start: int
    end: int


class Damage(NamedTuple):
    """One change of one segment (0 is the oldest): a bit flipped, or with `bit` None the file cut before the octet."""

    segment: int
    octet: int
    bit: int | None

    def __str__(self) -> str:
        what = "cut" if self.bit is None else f"bit {self.bit} flipped"
        return f"segment {self.segment + 1} {what} at octet {self.octet}"


class Expected(NamedTuple):
    """What a damage must result in."""

    readable: tuple[int, ...]
    lost: tuple[int, ...]
    """Named by `SpoolDamage`."""
    left_alone: bool
    """The file is too short for a segment: the recovery names it."""
    reported: bool
    """The recovery reports damage in this segment."""
    torn: int


class Seen(NamedTuple):
    """What one opening of a spool found."""

    read: tuple[tuple[int, bytes], ...]
    lost: tuple[int, ...]
    counted: tuple[tuple[EventType, int], ...]
    """Type and number of every event that damage took, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """The spool before the damage."""

    files: tuple[tuple[str, bytes], ...]
    payloads: dict[int, bytes]
    spans: dict[int, tuple[Span, ...]]
    places: dict[int, Place]

    @classmethod
    def make(cls) -> Self:
        """Always the same."""
        disk = FakeDisk()
        spool = _opened(disk)
        payloads, places = {}, {}
        spans: dict[int, tuple[Span, ...]] = {}
        while not _is_full(spool):
            number = spool.next_number
            kinds = _ALL_KINDS[: number % 3 + 1]
            header = spool.append(_contents(number, 40 + number * 37 % 200, kinds, spans.values()), number)
            spans[number] = header.spans
            payloads[number] = disk.open(_newest(disk)).read(header.payload_length, spool._end - header.payload_length)
            places[number] = Place(len(_names(disk)) - 1, spool._end - header.size, spool._end)
        paths = [f"{FOLDER}/{name}" for name in _names(disk)]
        files = tuple((path, disk.open(path).read(SEGMENT_SIZE, 0)) for path in paths)
        return cls(files=files, payloads=payloads, spans=spans, places=places)

    def flips(self, bits: range | None = None, stride: int = 1) -> Iterator[Damage]:
        """Every flipped bit; without `bits` one bit of each octet, another at each."""
        for number, (_, data) in enumerate(self.files):
            for octet in range(0, len(data), stride):
                for bit in bits or (octet * 5 % BITS,):
                    yield Damage(number, octet, bit)

    def cuts(self, stride: int = 1) -> Iterator[Damage]:
        """Every length that is too short."""
        for number, (_, data) in enumerate(self.files):
            for octet in range(0, len(data), stride):
                yield Damage(number, octet, None)

    def damaged(self, damage: Damage) -> FakeDisk:
        """A disk with the damaged spool."""
        disk = FakeDisk()
        disk.make_folder(FOLDER)
        for number, (path, data) in enumerate(self.files):
            with disk.open(path, create=True) as file:
                file.write(_changed(data, damage) if number == damage.segment else data, 0)
        return disk

    def expected(self, damage: Damage) -> Expected:
        """Return what this damage must result in, by the layout."""
        newest = damage.segment == len(self.files) - 1
        if damage.octet < segment.HEADER_LENGTH and damage.bit is not None:
            return Expected(tuple(self.places), (), left_alone=False, reported=True, torn=0)
        if damage.octet < segment.HEADER_LENGTH:
            there = [number for number, place in self.places.items() if place.segment == damage.segment]
            readable = tuple(number for number in self.places if number not in there)
            # Before the oldest and behind the newest there is nothing that a block could be missing from.
            between = damage.segment > 0 and not newest
            return Expected(readable, tuple(there) if between else (), left_alone=True, reported=False, torn=0)
        hit = tuple(number for number, place in self.places.items() if _is_hit(place, damage))
        readable = tuple(number for number in self.places if number not in hit)
        if newest and self._is_tail(hit):
            return Expected(readable, (), left_alone=False, reported=False, torn=self._torn(hit, damage))
        return Expected(readable, hit, left_alone=False, reported=newest, torn=0)

    def _is_tail(self, hit: tuple[int, ...]) -> bool:
        return not hit or hit[-1] == max(self.places)

    def _torn(self, hit: tuple[int, ...], damage: Damage) -> int:
        """Return the octets from the end of the last good block to the last octet that is not zero."""
        if damage.segment != len(self.files) - 1 or not self._is_tail(hit):
            return 0
        end = self.places[hit[0]].start if hit else self.places[max(self.places)].end
        return len(_changed(self.files[-1][1], damage)[end:].rstrip(b"\0"))


def _opened(disk: FakeDisk) -> Spool:
    return Spool.open(disk, FOLDER, segment_size=SEGMENT_SIZE, run=_RUN)


def _names(disk: FakeDisk) -> list[str]:
    return [name for name in disk.names(FOLDER) if segment.NAME.fullmatch(name)]


def _newest(disk: FakeDisk) -> str:
    return f"{FOLDER}/{_names(disk)[-1]}"


def _is_full(spool: Spool) -> bool:
    return len(spool._firsts) == SEGMENTS and spool._end > SEGMENT_SIZE // 2


def _contents(number: int, length: int, kinds: Sequence[EventType], before: Iterable[Iterable[Span]]) -> Contents:
    """One message of each of these types, numbered on from those before, and a position."""
    known = [span for spans in before for span in spans]
    spans: list[Span] = []
    for kind in kinds:
        spans.append(Span(kind, 1 + sum(span.messages for span in (*known, *spans) if span.type is kind), 1))
    texts = [b"<110>1 - block %d message %d %b" % (number, index, b"x" * length) for index in range(len(kinds))]
    return Contents(
        spans=spans,
        messages=texts,
        positions=[Position("audit", number * 10, b'{"inode":%d}' % number)],
        types_taken=block.type_bitmap([EventType.AUDIT, EventType.SECURITY]),
        earliest=number,
        latest=number,
        largest=max(map(len, texts)),
    )


def _changed(data: bytes, damage: Damage) -> bytes:
    if damage.bit is None:
        return data[: damage.octet]
    changed = bytearray(data)
    changed[damage.octet] ^= 1 << damage.bit
    return bytes(changed)


def _is_hit(place: Place, damage: Damage) -> bool:
    if place.segment != damage.segment:
        return False
    return place.end > damage.octet and (damage.bit is None or place.start <= damage.octet)


def examine(specimen: Specimen, damage: Damage) -> None:
    """Raise BrokenPromiseError, naming the damage, unless the result is the expected one."""
    try:
        _Examination(specimen, damage).run()
    except (RelayError, ValueError, LookupError, TypeError) as error:
        raise BrokenPromiseError(f"{damage}: {error!r}") from error


class _Examination:
    """One damaged spool."""

    def __init__(self, specimen: Specimen, damage: Damage) -> None:
        self._specimen = specimen
        self._damage = damage
        self._expected = specimen.expected(damage)
        self._disk = specimen.damaged(damage)
        self._added: list[tuple[int, bytes]] = []
        self._added_spans: list[Sequence[Span]] = []

    def run(self) -> None:
        spool = _opened(self._disk)
        self._check_recovery(spool)
        self._check_reading(spool)
        for length in (_LARGE, _SMALL):
            self._append(spool, length)
        spool.close()
        again = _opened(self._disk)
        self._hold("torn after the cut", again.recovery.torn, 0)
        self._hold("what is counted", self._check_reading(again).counted, self._events_lost())
        again.close()

    def _hold(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise BrokenPromiseError(f"{self._damage}: {what} is {found!r}, and should be {wanted!r}")

    def _check_recovery(self, spool: Spool) -> None:
        path, data = self._specimen.files[self._damage.segment]
        found, wanted = spool.recovery, self._expected
        self._hold("torn", found.torn, wanted.torn)
        self._hold("left alone", [text.split(":")[0] for text in found.left_alone], [path] * wanted.left_alone)
        self._hold("damage", {text.split(":")[0] for text in found.damage}, {path} if wanted.reported else set())
        if wanted.torn:
            self._check_torn_header(spool)
            end = spool._end
            copy = self._disk.open(found.torn_copy).read(SEGMENT_SIZE, 0)
            self._hold("the copy", copy, _changed(data, self._damage)[end : end + wanted.torn])
        self._hold("the next number", spool.next_number, self._next_number())

    def _check_torn_header(self, spool: Spool) -> None:
        """Check that a header which the damage left whole is reported."""
        number, torn_header = self._next_number(), spool.recovery.torn_header
        place = self._specimen.places.get(number)
        if torn_header is not None:
            self._hold("the torn block's spans", torn_header.spans, self._specimen.spans[number])
        elif place is not None:
            length = place.end - place.start - len(self._specimen.payloads[number])
            self._hold("the torn block's header not reported", self._damage.octet < place.start + length, True)

    def _next_number(self) -> int:
        """A cut tail's numbers are given again."""
        return max((*self._expected.readable, *self._expected.lost)) + 1

    def _append(self, spool: Spool, length: int) -> None:
        number = spool.next_number
        known = (*self._expected.readable, *self._expected.lost)
        before = [self._specimen.spans[each] for each in range(1, max(known) + 1)]
        contents = _contents(number, length, _ALL_KINDS, [*before, *self._added_spans])
        self._added_spans.append(contents.spans)
        spool.append(contents, number)
        self._added.append((number, b"".join(map(block.frame, contents.messages))))

    def _events_lost(self) -> tuple[tuple[EventType, int], ...]:
        spans = (span for number in self._expected.lost for span in self._specimen.spans[number])
        return tuple(sorted((kind, first + index) for kind, first, count, *_ in spans for index in range(count)))

    def _check_reading(self, spool: Spool) -> Seen:
        seen = _read(spool)
        payloads = [(number, self._specimen.payloads[number]) for number in self._expected.readable]
        self._hold("what is read", seen.read, (*payloads, *self._added))
        self._hold("what is lost", seen.lost, self._expected.lost)
        if self._expected.left_alone:
            path, data = self._specimen.files[self._damage.segment]
            path += BAD * self._disk.exists(path + BAD)
            self._hold("the file left alone", self._disk.open(path).read(SEGMENT_SIZE, 0), _changed(data, self._damage))
        return seen


def _read(spool: Spool) -> Seen:
    """Read everything, and the reported losses."""
    reader = SpoolReader(spool, 1)
    read: list[tuple[int, bytes]] = []
    lost: list[int] = []
    counted: list[tuple[EventType, int]] = []
    while (found := reader.read()) is not None:
        if isinstance(found, SpoolDamage):
            lost += range(found.first, found.last + 1)
        else:
            read.append((found.header.number, found.payload))
        counted += ((EventType(each.type), number) for each in reader.missing for number in _numbers(each))
    reader.close()
    return Seen(tuple(read), tuple(lost), tuple(sorted(counted)))


def _numbers(lost: LostRange) -> range:
    return range(lost.first, lost.first + lost.events)
