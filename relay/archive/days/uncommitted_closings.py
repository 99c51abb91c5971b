"""Which `Closing` lines may still be cut back: those of a commit whose journal record is not on the disk yet. Pure.

The writer notes a ledger before it writes the `Closing`, and the day keeper looks only after it has read that line, so
neither waits for the other. A commit that failed, for example because the disk is full, keeps its own ledgers noted
until the archive is recovered. All other closed days can be removed meanwhile, which frees space.
"""

from collections.abc import Iterable


class UncommittedClosings:
    """One for all writers of a program, because a failed writer is followed by another one."""

    def __init__(self) -> None:
        self.settled = 0
        """How often the noted ones were committed, or cut back by a recovery."""
        self._ledgers: frozenset[str] = frozenset()

    def note(self, ledgers: Iterable[str]) -> None:
        """Note ledgers, by their paths below the archive, before their `Closing` is written."""
        self._ledgers |= frozenset(ledgers)

    def settle(self) -> None:
        """Forget all, when the commit or the recovery has succeeded."""
        self.settled += 1
        self._ledgers = frozenset()

    def __contains__(self, ledger: str) -> bool:
        return ledger in self._ledgers
