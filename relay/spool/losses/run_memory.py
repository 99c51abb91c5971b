"""What is remembered of runs whose blocks may be gone, in two slots.

- `numbers`: the run that wrote it and its last number of each type, when its newest segment began or when it ended; the
  types of the transient spool, and the next block's number of each spool at that moment.
- `runs`: the last number of each type of the newest 16 runs that are over, by spool.

By these it is known what missing blocks held, and no number is given twice. When a slot cannot be written, less is
known of this run later, and nothing is lost.
"""

import contextlib
import logging
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from relay.errors import StorageError
from relay.spool.both_spools import BothSpools
from relay.spool.losses.numbers import RunEnd
from relay.spool.slots import Slots
from relay.spool.spool import Spool
from relay.values.event import EventType

NUMBERS_KEY: Final = "numbers"
RUNS_KEY: Final = "runs"
MAX_RUNS: Final = 16
"""Runs whose last numbers are kept. What older runs lack is not known."""

_Value = TypeVar("_Value")

_log = logging.getLogger("relay.spool")


class RememberedNumbers(msgspec.Struct, frozen=True):
    """The slot `numbers`. An older relay wrote the first two fields alone."""

    run: str = ""
    last: dict[str, int] = {}
    transient: tuple[str, ...] = ()
    """The types that the transient spool takes."""
    next_retained: int = 1
    next_transient: int = 1

    @classmethod
    def decode(cls, data: bytes | None) -> "RememberedNumbers":
        """From the slot's value; nothing is remembered when it is missing or unreadable."""
        return _decoded(data, cls, cls())

    @property
    def next_numbers(self) -> BothSpools[int]:
        """The next block's number of each spool."""
        return BothSpools(self.next_retained, self.next_transient)


class _EndedRun(msgspec.Struct, frozen=True, array_like=True):
    """The last number of each type of a run that is over, by the spool that took the type."""

    run: str
    retained: dict[str, int]
    transient: dict[str, int]

    @property
    def ends(self) -> BothSpools[RunEnd]:
        """For each spool."""
        run = bytes.fromhex(self.run)
        return BothSpools(self.retained, self.transient).map(
            lambda last: RunEnd(run, {EventType.from_label(label): number for label, number in last.items()})
        )


class RunMemory:
    """The remembered runs of a store. Creating it gives the spools their ended runs and used numbers."""

    def __init__(self, slots: Slots, spools: BothSpools[Spool], run: bytes, used: BothSpools[int]) -> None:
        self._slots = slots
        self._spools = spools
        self._run = run
        self._remembered_at = BothSpools(0, 0)
        remembered = RememberedNumbers.decode(slots.get(NUMBERS_KEY))
        for spool, numbers in zip(spools, zip(remembered.next_numbers, used, strict=True), strict=True):
            if (number := max(numbers)) > spool.next_number:
                cause = f"blocks {spool.next_number} to {number - 1} were there, and are missing"
                _log.error("%s: %s: its newest files were deleted or emptied, maybe with more", spool.folder, cause)
                spool.skip_numbers(number)
        self.previous: RunEnd | None = self._previous(remembered)
        """The run that wrote last before this one, and its last number of each type; None for a new spool."""
        runs = _decoded(slots.get(RUNS_KEY), tuple[_EndedRun, ...], ())
        if self.previous is not None and self.previous.run.hex() not in {each.run for each in runs}:
            runs = (*runs, self._ended(self.previous, remembered.transient))[-MAX_RUNS:]
            with contextlib.suppress(StorageError):
                slots.put(RUNS_KEY, msgspec.json.encode(runs))
        with contextlib.suppress(KeyError, ValueError):
            ends = [each.ends for each in runs]
            spools.retained.ends = tuple(each.retained for each in ends)
            spools.transient.ends = tuple(each.transient for each in ends)

    def _previous(self, remembered: RememberedNumbers) -> RunEnd | None:
        headers = [spool.last for spool in self._spools if spool.last is not None]
        run = max(headers, key=lambda header: header.committed).run if headers else b""
        nothing_newer = all(
            spool.next_number <= number for spool, number in zip(self._spools, remembered.next_numbers, strict=True)
        )
        if remembered.run and (nothing_newer or not run):  # what that run wrote may be missing
            run = bytes.fromhex(remembered.run)
        if not run:
            return None
        numbers: dict[EventType, int] = {}
        if remembered.run == run.hex():
            with contextlib.suppress(KeyError):
                numbers |= {EventType.from_label(label): number for label, number in remembered.last.items()}
        for spool in self._spools:
            if spool.last is not None and spool.last.run == run:
                for kind, number in spool.previous_numbers.items():
                    numbers[kind] = max(number, numbers.get(kind, 0))
        return RunEnd(run, numbers)

    def _ended(self, end: RunEnd, transient: tuple[str, ...]) -> _EndedRun:
        labels = {kind.label: number for kind, number in end.last.items()}
        types = transient or _types_taken(self._spools.transient)
        return _EndedRun(
            end.run.hex(),
            {label: number for label, number in labels.items() if label not in types},
            {label: number for label, number in labels.items() if label in types},
        )

    def remember(self, last: Mapping[EventType, int], *, at_once: bool = False) -> None:
        """Store this run's last numbers when a segment began: the next opening reads only the newest segments."""
        newest = self._spools.map(lambda spool: spool.newest_first)
        if newest == self._remembered_at and not at_once:
            return
        remembered = RememberedNumbers(
            self._run.hex(),
            {kind.label: number for kind, number in last.items()},
            _types_taken(self._spools.transient),
            *self._spools.map(lambda spool: spool.next_number),
        )
        with contextlib.suppress(StorageError):
            self._slots.put(NUMBERS_KEY, msgspec.json.encode(remembered))
            self._remembered_at = newest


def _types_taken(spool: Spool) -> tuple[str, ...]:
    return tuple(kind.label for kind in EventType if spool.took(kind))


def _decoded(data: bytes | None, kind: type[_Value], default: _Value) -> _Value:
    """A slot's value; the default when it is missing or unreadable."""
    try:
        return default if data is None else msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError:
        return default
