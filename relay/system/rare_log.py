"""Warnings of a kind that may repeat without end: at most one line a minute, which counts those before it."""

import logging
import time
from collections.abc import Callable
from typing import Final

A_MINUTE: Final = 60.0


class RareLog:
    """Warnings by kind; there must be few kinds. For any thread, although two lines may then come at once."""

    def __init__(
        self, log: logging.Logger, *, seconds: float = A_MINUTE, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._monotonic = monotonic
        self._next: dict[str, float] = {}
        self._kept_back: dict[str, int] = {}

    def warn(self, kind: str, message: str, *arguments: object) -> None:
        """Log it, unless a line of this kind was logged within the last minute."""
        now = self._monotonic()
        if now < self._next.get(kind, now):
            self._kept_back[kind] = self._kept_back.get(kind, 0) + 1
            return
        self._next[kind] = now + self._seconds
        more = self._kept_back.pop(kind, 0)
        if more:
            message, arguments = message + " (and %d more since the last line)", (*arguments, more)
        self._log.warning(message, *arguments)
