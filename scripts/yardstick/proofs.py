"""The times of relay's proofs: its cursor, read from the disk, so that looking costs relay nothing."""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from relay.spool.inspection.overview import cursors
from relay.system.disk import Disk

RESOLUTION: Final = 0.002
"""Seconds between two looks."""


class Proof(NamedTuple):
    """One move of the cursor."""

    delivered: int
    """Messages proven so far."""
    at: float
    """CLOCK_MONOTONIC, seconds."""


def delivered(state: Path) -> int:
    """Return the number of proven messages, of all cursors of a state directory together."""
    return sum(cursor.delivered for cursor in cursors(Disk(), str(state)).values())


class Proofs:
    """Watches a state directory's cursor during the `with` block."""

    def __init__(self, state: Path) -> None:
        self.seen: list[Proof] = []
        self._state = state
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def count(self) -> int:
        """Return the number of proven messages."""
        return self.seen[-1].delivered if self.seen else 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        last = 0
        while not self._ended.wait(RESOLUTION):
            count = delivered(self._state)
            if count != last:
                self.seen.append(Proof(count, time.monotonic()))
                last = count
