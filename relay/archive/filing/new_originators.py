"""How many new originators one sender may begin at a time. Pure: it is given the time.

A new originator costs a folder, a log and a ledger, so a sender that invents thousands of names would keep the messages
of all others from the archive. Each sender has an allowance, which grows with time up to `AT_ONCE`.
"""

from typing import Final

AT_ONCE: Final = 500
"""About half a second of work for a disk, so that the messages of others are archived within about two."""
A_SECOND: Final = 50.0
MOST_SENDERS: Final = 10_000

Sender = tuple[str, str]
"""Its verified identity, and the source that its address belongs to (`relay.values.address`)."""

_MICROSECONDS: Final = 1_000_000


class NewOriginators:
    """The allowances of all senders; those of the senders that began one last are remembered."""

    def __init__(self, at_once: int = AT_ONCE, a_second: float = A_SECOND, most_senders: int = MOST_SENDERS) -> None:
        self._at_once = at_once
        self._a_second = a_second
        self._most_senders = most_senders
        self._left: dict[Sender, tuple[float, int]] = {}
        """What was left of each sender's allowance, and when (microseconds since the epoch)."""

    def may_begin(self, sender: Sender, now: int) -> bool:
        """Whether this sender may begin one more now; if so, its allowance is less by one."""
        left, at = self._left.pop(sender, (float(self._at_once), now))
        left = min(left + max(now - at, 0) / _MICROSECONDS * self._a_second, self._at_once)
        may = left >= 1
        self._left[sender] = (left - may, now)
        if len(self._left) > self._most_senders:
            del self._left[next(iter(self._left))]
        return may
