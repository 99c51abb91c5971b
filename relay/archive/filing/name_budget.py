"""How many names may begin, and that no sender uses all of them up. Pure.

A sender begins a new name only while it has begun fewer than it leaves to the others. So the first sender gets half of
the budget, the next one half of the rest: a stranger that invents names cannot take the last one. What is exempt from
that is behind sshd on this machine: there all routers have one address.
"""

from collections import Counter

from relay.archive.filing.new_originators import Sender


class NameBudget:
    """The names that senders of one kind have begun."""

    def __init__(self) -> None:
        self._owners: dict[str, Sender | None] = {}
        """Of each folder, who began it; None where that was before this program's start."""
        self._begun: Counter[Sender] = Counter()

    def __len__(self) -> int:
        return len(self._owners)

    def __contains__(self, folder: str) -> bool:
        return folder in self._owners

    def has_room_for(self, sender: Sender, most: int, *, is_exempt: bool) -> bool:
        """Whether this sender may begin one more of `most`."""
        left = most - len(self)
        return left > 0 and (is_exempt or self._begun[sender] < left)

    def add(self, folder: str, sender: Sender | None = None) -> None:
        """The sender begins a folder."""
        if folder not in self._owners:
            self._owners[folder] = sender
            if sender is not None:
                self._begun[sender] += 1

    def discard(self, folder: str) -> None:
        """The folder counts elsewhere from now on."""
        owner = self._owners.pop(folder, None)
        if owner is not None:
            self._begun[owner] -= 1
            if not self._begun[owner]:
                del self._begun[owner]
