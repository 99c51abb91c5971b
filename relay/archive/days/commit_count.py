"""Whether a commit of the archive is under way. The writer counts, and nobody waits for the other. Pure.

What a commit writes can be cut back until its journal record is on the disk. `day_keeper` reads a ledger between two
equal looks at the count: then all that it read is committed.
"""


class CommitCount:
    """One for all writers of a program, because a failed writer is followed by another one."""

    def __init__(self) -> None:
        self._begun = 0
        self._ended = 0

    def begin(self) -> None:
        """Count the beginning of a commit, or of the recovery after a failed one."""
        self._begun += 1

    def end(self) -> None:
        """Count its good end."""
        self._ended = self._begun

    def look(self) -> int | None:
        """How many commits there were; None while one is under way, also when it failed."""
        ended = self._ended
        return ended if ended == self._begun else None
