"""How far an archive was read.

A position in a log is valid as long as the ledger before it is unchanged. A writer that crashed cuts back what it had
not committed and writes it again, perhaps in another order. So a position remembers the hashes of the last ledger lines
that it passed. When they differ now, reading goes back to one that is still the same: events can come twice, but none
is left out.

Which logs are new is found by the chain of the ledgers, because a clock that was set back makes the writer begin an
older day's log again. So the logs of a position are those that are not finished, and those that no other continues.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from relay.archive.layout import DayFiles
from relay.archive.ledger import Extent

MAX_PASSED: Final = 8
"""Ledger lines that a position remembers; one commit writes one line for each sender."""


class PassedLine(NamedTuple):
    """A line of the ledger whose extent was read, or is being read."""

    off: int
    """Where its extent begins in the log."""
    line: int
    """Where the line ends in the ledger."""
    sha256: str


@dataclass(slots=True)
class DayPosition:
    """How far one log was read."""

    off: int = 0
    """Where the next line begins."""
    passed: list[PassedLine] = field(default_factory=list)
    """The newest ones, the newest last."""
    finished: bool = False
    """The log is closed or removed, and read to its end."""
    facts: object = None
    """What the files looked like when all that they had was read; a bookmark does not keep it."""

    def enter(self, extent: Extent | None, line: int) -> None:
        """Note that lines of this extent are read, whose line ends here in the ledger."""
        if extent is not None and not (self.passed and self.passed[-1].line == line):
            self.passed.append(PassedLine(extent.off, line, extent.sha256))
            del self.passed[:-MAX_PASSED]

    def go_back(self, hash_at: Callable[[int], str]) -> bool:
        """Return to the last line that the ledger still has; whether the position had to move.

        `hash_at` gives the hash of the line that ends at this offset of the ledger.
        """
        moved = False
        while self.passed and hash_at(self.passed[-1].line) != self.passed[-1].sha256:
            self.off, moved = self.passed.pop().off, True
        if moved and not self.passed:
            self.off = 0
        return moved


@dataclass(slots=True)
class OriginatorPosition:
    """How far one originator was read, by the stems of its logs ("2026-11-30")."""

    logs: dict[str, DayPosition] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    """Further logs that were read to their end."""

    def find_read(self, days: Iterable[DayFiles], after: Callable[[str], str | None]) -> None:
        """Fill `read` by the chain of the headings, after the position came from a bookmark.

        `after` gives the stem that a ledger's heading names; None: there is none, or the ledger is missing.
        """
        places = {files.stem: (files.day, files.part) for files in days}
        for begin in self.logs:
            stem: str | None = begin
            while stem is not None:
                before = after(stem)
                if before is None and stem in places:  # the chain's beginning, or it is broken
                    self.read.update(other for other, place in places.items() if place < places[stem])
                elif before is not None and before not in self.read:
                    self.read.add(before)
                    stem = before
                    continue
                break
        self.read -= self.logs.keys()

    def begin(self, stem: str, after: str | None) -> DayPosition:
        """The position in a log. A finished log that this one continues needs no position of its own any more."""
        if after is not None and after in self.logs and self.logs[after].finished:
            del self.logs[after]
            self.read.add(after)
        return self.logs.setdefault(stem, DayPosition())
