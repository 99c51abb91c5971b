"""When the archive commits. Pure: it is given the time.

An extent describes one sender's lines of one commit, and a commit syncs two files for each originator. So commits are
rare under load: one a second, or after `MAX_PENDING` octets, and never more than half of the time. A few commits in a
row are made at once, because then a message of a quiet network is in the archive a moment after it came.
"""

from typing import Final

INTERVAL: Final = 1.0
"""Seconds between two commits under load."""
AT_ONCE: Final = 8
"""Commits that may follow one another at once after a pause of as many intervals."""
MAX_PENDING: Final = 16 * 1024 * 1024


class CommitPace:
    """Decides whether a commit is due. All times are in seconds of one clock."""

    def __init__(self) -> None:
        self._credit = float(AT_ONCE)
        self._began = self._ended = float("-inf")

    def is_due(self, now: float, pending: int) -> bool:
        """Whether to commit now, with so many octets waiting."""
        if now - self._ended < self._ended - self._began and self._began > float("-inf"):
            return False
        return pending >= MAX_PENDING or self._credit + (now - self._began) / INTERVAL >= 1

    def note(self, began: float, ended: float) -> None:
        """Note a commit."""
        earned = (began - self._began) / INTERVAL
        self._credit = min(self._credit + earned, AT_ONCE) - 1
        self._credit = max(self._credit, 0.0)
        self._began, self._ended = began, ended
