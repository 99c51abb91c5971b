"""Log lines about what may happen thousands of times a second: the first at once, then one a minute with the counts."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

MINUTE: Final = 60.0


class MinuteLog:
    """Counts what happens; `write` gets the counts since its last call. For the thread of one event loop."""

    def __init__(self, write: Callable[[Mapping[str, int]], None], seconds: float = MINUTE) -> None:
        self._write = write
        self._seconds = seconds
        self._counts: Counter[str] = Counter()
        self._pause: asyncio.TimerHandle | None = None

    def count(self, what: str, times: int = 1) -> None:
        """Note that something happened; logs it now, or at the end of the minute since the last line."""
        self._counts[what] += times
        if self._pause is None:
            self._flush()

    def close(self) -> None:
        """Log what is counted and not logged yet."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._write_counts()

    def _flush(self) -> None:
        if self._write_counts():
            self._pause = asyncio.get_running_loop().call_later(self._seconds, self._flush)
        else:
            self._pause = None

    def _write_counts(self) -> bool:
        counts, self._counts = self._counts, Counter()
        if counts:
            self._write(counts)
        return bool(counts)
