"""What the check of an archive reports. Pure."""

from typing import Final, NamedTuple

from relay.archive.completeness.assessment import Completeness

MAX_PLACES: Final = 100
"""Of one originator so many places are kept; further ones are counted."""


class ArchiveDefect(NamedTuple):
    """A place where the archive is not as its writer left it."""

    kind: str
    """`altered`: lines of a log, or the ledger's line about them, are not as they were written. `ledger altered`: a
    heading or a closing is not, or the ledger before it. `misplaced`: a ledger that was written for another
    day or originator, so the day was copied or renamed. `not a ledger line`: octets of a ledger. `unrecorded`: lines
    of a log that no ledger describes. `ledger missing`, `log missing`, `log cut`: files. `cut`: a file is shorter than
    the journal says. `added`: a file is longer, although the writer had stopped. `gone`: the journal knows the file.
    `changed`: the writer recorded that another program changed an open day's files. `duplicate`, `differs`: a number
    that is there twice, with the same or with other octets. `malformed`: a message of relay's that is not as relay
    writes it. `index`: the journal is damaged.
    `unreadable`: a file cannot be read or decompressed. `unpacked`, `resized`: a file of a package that is not
    there, or has not the size that the package's description lists."""
    path: str
    first: int = 0
    """The first line of the file, counted from 1; 0: the whole file."""
    last: int = 0
    octets: int = 0
    run: bytes = b""
    type: bytes = b""
    number: int = 0
    cause: str = ""


class ArchiveNotice(NamedTuple):
    """Not a fault, but something an auditor wants to know."""

    kind: str
    """`foreign`: not made by relay, and not read. `open`: others than the owner can write to it. `copy`: the writer's
    copy of what it cut or found damaged. `uncommitted`: written, but not by a commit. `compressed`: by another program
    than relay. `begins in the middle`: the chain continues a ledger that is not here. `package begins`: so
    it does in a package, because earlier days were not chosen. `begins anew`: a ledger
    continues none, and there are older ones. `unclosed`: a day that has no closing and is not open by the journal.
    `undescribed`: octets behind the last line of a ledger, in an archive without a journal. `removed`: by retention.
    `was changed`: as `changed`, in a day that retention has removed.
    `uncompared`: numbers that are there twice, whose octets could not be compared. `forgeable`: messages with the
    number of another message and other octets, from another sender or from one of which nothing was verified.
    `disputed`: messages under a name
    that is bound to another sender. `aside`: messages of an originator whose own folder could not be written."""
    path: str
    octets: int = 0
    times: int = 0
    detail: str = ""


class CheckedOriginator(NamedTuple):
    """One originator's folder, after its check."""

    name: str
    days: tuple[str, ...]
    """The first and the last with a log; empty: none."""
    octets: int
    """Uncompressed octets of the logs."""
    extents: int
    """Extents whose octets agree with the chain."""
    being_written: int
    """Octets that the writer is just committing."""
    counts: dict[str, int]
    """Kind of defect → places."""
    places: tuple[ArchiveDefect, ...]
    notices: tuple[ArchiveNotice, ...]
    completeness: Completeness

    @property
    def defects(self) -> int:
        """All places, also those that are not kept."""
        return sum(self.counts.values())

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.defects or self.completeness.faults or self.completeness.unassessed)


class OriginatorFindings:
    """Collects what is found about one originator."""

    def __init__(self, max_places: int = MAX_PLACES) -> None:
        self._max_places = max_places
        self.counts: dict[str, int] = {}
        self.places: list[ArchiveDefect] = []
        self.notices: list[ArchiveNotice] = []
        self.octets = self.extents = self.being_written = 0

    def add(self, place: ArchiveDefect) -> None:
        """Add a defect. Altered lines that follow each other are one place."""
        last = self.places[-1] if self.places else place
        if place.kind == "altered" and (last.kind, last.path, last.last + 1) == (place.kind, place.path, place.first):
            self.places[-1] = last._replace(last=place.last, octets=last.octets + place.octets)
            return
        self.counts[place.kind] = self.counts.get(place.kind, 0) + 1
        if len(self.places) < self._max_places:
            self.places.append(place)
