"""The largest message that a collector accepts: found by test messages of growing size, each of them proven. Pure.

The size is doubled until one is not accepted, then the interval between is halved. Both ends are tried a second time: a
collector that answers otherwise then is not to be relied on.
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
