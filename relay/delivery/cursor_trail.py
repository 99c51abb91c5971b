"""Where nothing is proven: how far counts as delivered, because it has been on its way for a while without a failure.

Pure: the time is an argument, in seconds of a clock that never goes back. `window` is how long that while is; 0
believes what the socket has taken. After a loss, what is not settled is sent again. Memory: a few cursors a window.
"""

from collections import deque
from typing import Final

from relay.spool.cursor import Cursor

WINDOW: Final = 5.0
_MARKS: Final = 16
"""In a window."""


class CursorTrail:
    """The cursors that were reached lately, and when."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._marks: deque[tuple[float, Cursor]] = deque()

    def settled(self, now: float, reached: Cursor) -> Cursor | None:
        """Note what has been reached now; the newest cursor that is old enough, each but once."""
        if not self._marks or self._is_ahead(now, reached):
            self._marks.append((now, reached))
        settled = None
        while self._marks and now - self._marks[0][0] >= self._window:
            settled = self._marks.popleft()[1]
        return settled

    def _is_ahead(self, now: float, reached: Cursor) -> bool:
        """Whether a new mark is worth it: the places differ, and not too many marks stand in a window."""
        at, last = self._marks[-1]
        apart = now - at >= self._window / _MARKS
        places = (reached.reached_retained, reached.reached_transient)
        return apart and (last.reached_retained, last.reached_transient) != places
