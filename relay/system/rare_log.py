"""Warnings of a kind that may repeat without end: at most one line a minute, which counts those before it."""

import logging
import time
from collections.abc import Callable
from typing import Final

A_MINUTE: Final = 60.0
MOST_KINDS: Final = 200
_OTHERS: Final = ""


class RareLog:
    """Warnings by kind, such as a sender's address. For any thread, although two lines may then come at once.

    Beyond `MOST_KINDS` within a minute, all other kinds are one.
    """

    def __init__(
        self, log: logging.Logger, *, seconds: float = A_MINUTE, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._monotonic = monotonic
        self._next: dict[str, float] = {}
        self._kept_back: dict[str, int] = {}

    def warn(self, kind: str, message: str, *arguments: object) -> bool:
        """Log it, unless a line of this kind was logged within the last minute; whether it is logged."""
        now = self._monotonic()
        if kind not in self._next and len(self._next) >= MOST_KINDS:
            self._forget_before(now)
            kind = kind if len(self._next) < MOST_KINDS else _OTHERS
        if now < self._next.get(kind, now):
            self._kept_back[kind] = self._kept_back.get(kind, 0) + 1
            return False
        self._next[kind] = now + self._seconds
        more = self._kept_back.pop(kind, 0)
        if more:
            message, arguments = message + " (and %d more since the last line)", (*arguments, more)
        self._log.warning(message, *arguments)
        return True

    def _forget_before(self, now: float) -> None:
        self._next = {kind: until for kind, until in self._next.items() if until > now or kind == _OTHERS}
        self._kept_back = {kind: count for kind, count in self._kept_back.items() if kind in self._next}
