"""Where nothing can be proven: messages count as delivered after a time without a failure.

Pure: the time is an argument, in seconds of a clock that never goes back. After a loss, the messages that are not
settled are sent again. Memory: a few cursors a window.
"""

from collections import deque
from typing import Final

from relay.spool.cursor import Cursor

WINDOW_SECONDS: Final = 5.0
_MARKS: Final = 16
"""In a window."""


class ResendWindow:
    """The cursors reached lately, and when. With 0 seconds a cursor is settled as soon as the socket has the data."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._marks: deque[tuple[float, Cursor]] = deque()

    def settled(self, now: float, reached: Cursor) -> Cursor | None:
        """Note the cursor reached now; return the newest cursor that is old enough, each once."""
        if self._marks:
            marked_at, last = self._marks[-1]
            is_due = now - marked_at >= self._seconds / _MARKS  # not too many marks in a window
            differs = last.reached != reached.reached
        if not self._marks or (is_due and differs):
            self._marks.append((now, reached))
        settled = None
        while self._marks and now - self._marks[0][0] >= self._seconds:
            settled = self._marks.popleft()[1]
        return settled
