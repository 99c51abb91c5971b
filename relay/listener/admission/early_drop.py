"""Random early drop, as sshd's MaxStartups. Pure.

When unauthenticated connections become many, newcomers are dropped at random, more and more of them. So a flood cannot
lock the others out: each attempt of theirs has a chance.
"""

from typing import Final

_BEGIN: Final = 10
"""Three tenths of the ceiling, and at least so many, are never dropped, because routers may start all at once."""
_CHANCE: Final = 0.3
"""At the beginning; it grows in proportion until everything is dropped at the ceiling. sshd begins at a tenth."""


def chance_of_drop(waiting: int, ceiling: int) -> float:
    """The probability (0 to 1) with which a newcomer is dropped while so many connections wait for their login."""
    begin = max(3 * ceiling // 10, _BEGIN)
    if waiting >= ceiling:
        return 1.0
    if waiting < begin:
        return 0.0
    return _CHANCE + (1 - _CHANCE) * (waiting - begin) / (ceiling - begin)
