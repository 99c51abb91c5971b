"""Finds the largest message that a collector accepts, by test messages of different sizes, each proven. Pure.

The size is doubled until a message is not accepted, then the interval between is halved. Both ends are tried a second
time, because a collector that is being restarted may answer differently.
"""

from collections.abc import Callable

from relay.errors import TemporaryError


def largest_accepted(accepts: Callable[[int], bool], smallest: int, largest: int) -> int:
    """In octets, from `smallest`, which is accepted, to `largest`; TemporaryError when the answers contradict."""
    good, bad = smallest, smallest
    while bad == good < largest:
        size = min(2 * good, largest)
        if accepts(size):
            good = bad = size
        else:
            bad = size
    while bad - good > 1:
        middle = (good + bad) // 2
        if accepts(middle):
            good = middle
        else:
            bad = middle
    if not accepts(good) or (bad > good and accepts(bad)):
        cause = f"it accepts {good} octets at one time and not at another"
        raise TemporaryError("collector", cause, "is it being restarted? try again")
    return good
