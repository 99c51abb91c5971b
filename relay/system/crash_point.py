"""Named moments at which a test can kill relay, as a power cut would. Without RELAY_CRASH_AT nothing happens.

`RELAY_CRASH_AT=NAME:N` kills this process with SIGKILL when the moment NAME comes for the Nth time. `scripts/faults`
and `tests/faults` go through every name.
"""

import os
import signal
from typing import Final

POINTS: Final = (
    "segment-allocated",
    "segment-renamed",
    "segment-made",
    "block-half-written",
    "block-written",
    "block-synced",
    "torn-tail-copied",
    "torn-tail-cut",
    "between-the-spools",
    "committed-not-told",
    "segment-released",
    "interval-sent",
    "interval-drained",
    "interval-proven",
    "slot-written",
    "cursor-moved",
    "archive-written",
    "archive-synced",
    "archive-committed",
    "day-compressing",
    "day-compressed",
    "day-renamed",
    "removal-recorded",
)

_NAME, _, _COUNT = os.environ.get("RELAY_CRASH_AT", "").partition(":")
_left = int(_COUNT) if _COUNT.isdigit() else 1


def crash_point(name: str) -> None:
    """Die here if this moment is the one to die at."""
    if name == _NAME and is_due(name):
        die()


def is_due(name: str) -> bool:
    """Whether to die at this moment; for a moment that has to be prepared, such as half a write."""
    global _left  # noqa: PLW0603  the process's own countdown
    if name != _NAME:
        return False
    _left -= 1
    return _left == 0


def die() -> None:
    """Die at once: nothing is flushed, closed or answered."""
    os.kill(os.getpid(), signal.SIGKILL)
