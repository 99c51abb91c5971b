"""Writing audit.log as auditd does: whole records, at a steady rate, in a thread of its own, with rotation by renaming.

with Writing(path, lines, rate=10_000) as writing:
wait_until(lambda: writing.ended, …)
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from scripts.yardstick.judge import Ledger
from scripts.yardstick.workload import Pace

_TICK: Final = 0.01  # seconds between two writes


class Writing:
    """Writes the lines, each with its LF; the end of the `with` block stops it early.

    With `rotate_at` the log is renamed to `….1` when it has that size, and so on; `generations` of them are kept.
    """

    def __init__(
        self,
        log: Path,
        lines: Iterable[bytes],
        *,
        rate: float,
        rotate_at: int = 0,
        generations: int = 5,
        most: Callable[[], int] | None = None,
    ) -> None:
        """`most` returns how many lines may have been written by now; for any thread."""
        self.written = Ledger()
        """What has been written."""
        self.rotations = 0
        self.ended = False
        self._log = log
        self._lines = iter(lines)
        self._rate = rate
        self._rotate_at = rotate_at
        self._generations = generations
        self._most = most
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop writing."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        for data in self._portions():
            with self._log.open("ab", buffering=0) as log:
                log.write(data)
                size = log.tell()
            self.written.take(data)
            if self._rotate_at and size >= self._rotate_at:
                self._rotate()
        self.ended = True

    def _portions(self) -> Iterator[bytes]:
        """Write what is due, again and again."""
        pace, given = Pace(self._rate), 0
        while not self._stopped.is_set():
            due = pace.due + 1 - given
            if self._most is not None:
                due = min(due, self._most() - given)
            if lines := list(islice(self._lines, max(due, 0))):
                yield b"\n".join(lines) + b"\n"
                given += len(lines)
            elif due > 0:
                return
            self._stopped.wait(_TICK)

    def _rotate(self) -> None:
        for number in range(self._generations, 0, -1):
            older = self._log.with_name(f"{self._log.name}.{number}")
            if older.exists():
                older.rename(self._log.with_name(f"{self._log.name}.{number + 1}"))
        self._log.with_name(f"{self._log.name}.{self._generations + 1}").unlink(missing_ok=True)
        self._log.rename(self._log.with_name(f"{self._log.name}.1"))
        self._log.touch()
        self.rotations += 1
