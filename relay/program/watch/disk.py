"""Is there still room? Pure: numbers of octets in, the alarm that they call for out.

`space-left` is compared with two kinds of room: what is free on the file system, and what `max-size` still lets the
spool hold. Segments that may be deleted for room count as room in `max-size`: a spool is meant to fill up with history,
and only what is held can keep it from taking in. When `max-size` is less than ten times `space-left` its margin is a
tenth of it, or a small spool would never be without the alarm. An alarm ends at a tenth more than its margin, so that
it does not flap. The text holds no measured number, so it changes only with the reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from relay.values.alarm import DISK_SPACE_LEFT, Alarm
from relay.values.size import size_text

_TENTH: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpace:
    """What is measured, and what was configured; in octets."""

    free: int
    """What relay may still write on the file system."""
    held: int
    """What the spool holds and may not delete for room."""
    max_size: int
    reserved: int = 0
    """Of max-size, what only events that cannot be delivered again may use."""
    space_left: int
    """0: nobody is warned."""


class _SpaceAlarm(NamedTuple):
    text: str
    left: int
    margin: int


def alarm_wanted(room: DiskSpace, raised: Alarm | None) -> Alarm | None:
    """The alarm `disk-space-left` that this room calls for, None for none; `raised` is the one that stands now."""
    for kind in _kinds(room):
        standing = raised is not None and raised.text == kind.text
        if kind.left < kind.margin + (kind.margin // _TENTH if standing else 0):
            return Alarm(DISK_SPACE_LEFT, "major", kind.text)
    return None


def _kinds(room: DiskSpace) -> Iterator[_SpaceAlarm]:
    text = f"less than {size_text(room.space_left)} (space-left) is free on the disk of the state directory"
    yield _SpaceAlarm(text, room.free, room.space_left)
    margin = min(room.space_left, room.max_size // _TENTH)
    text = f"less than {size_text(margin)} is left in the spool's max-size of {size_text(room.max_size)}"
    yield _SpaceAlarm(text, max(room.max_size - room.reserved - room.held, 0), margin)
