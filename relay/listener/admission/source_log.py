"""Warnings that strangers can cause: one line a minute for each source and kind, and a ceiling for all together."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

A_MINUTE: Final = 60.0
MOST_LINES: Final = 30
"""Lines a minute for all sources together; one more counts the rest."""


class SourceLog:
    """Warnings by source. For the thread of one event loop."""

    def __init__(self, log: logging.Logger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._monotonic = monotonic
        self._ends = float("-inf")
        self._suppressed: dict[tuple[str, str], int] = {}  # of the sources that have a line in this minute
        self._others = 0

    def warn(self, source: str, kind: str, message: str, *arguments: object) -> bool:
        """Log it, unless this source had a line of this kind within the last minute; whether it was logged."""
        if self._monotonic() >= self._ends:
            self.close()
            self._ends = self._monotonic() + A_MINUTE
        key = (source, kind)
        if key in self._suppressed:
            self._suppressed[key] += 1
            return False
        if len(self._suppressed) >= MOST_LINES:
            self._others += 1
            return False
        self._suppressed[key] = 0
        self._log.warning(message, *arguments)
        return True

    def close(self) -> None:
        """Log what is counted and not logged yet; a minute begins."""
        suppressed, self._suppressed = self._suppressed, {}
        others, self._others = self._others, 0
        repeated: Counter[str] = Counter()
        for (source, _), count in suppressed.items():
            repeated[source] += count
        named = [f"{count} from {source or 'this machine'}" for source, count in repeated.items() if count]
        if others:
            named.append(f"{others} from further senders")
        if named:
            self._log.warning("similar lines of one minute are not logged: %s", ", ".join(named))
