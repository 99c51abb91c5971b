"""Measure how long this process did not run, to subtract it where a test measures seconds of wall time."""

import threading
import time
from types import TracebackType
from typing import Final, Self

_STEP: Final = 0.05  # seconds


class Standstill:
    """Adds up the time of the `with` block in which its thread, which only wakes up, did not run."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        slept = time.monotonic()
        while not self._over.wait(_STEP):
            woken = time.monotonic()
            self.seconds += max(0.0, woken - slept - 2 * _STEP)
            slept = woken
