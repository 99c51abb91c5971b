"""When is a silent SSH peer dead? Pure: it is told what was seen and when, and answers what to do.

Octets from the peer are the only sign of life. When none came for `quiet` seconds the peer is asked for one
(keepalive@openssh.com with want-reply, which every server answers, whether a channel is full or not); when none comes
for `answer` seconds after that, it is dead. That wait begins when the peer's kernel has acknowledged the request: until
then the request may stand behind data on a slow link, and each further acknowledgement begins the wait anew. Once the
request has arrived, acknowledgements count for nothing: a frozen process has a kernel that goes on acknowledging.
Times are seconds of a clock that only rises.
"""

import enum
from typing import Final, NamedTuple

_LOOKS: Final = 8  # looks in the shorter of the two times


class LivenessAction(enum.Enum):
    """What to do about the peer."""

    ALIVE = "alive"
    ASK = "ask"
    DEAD = "dead"


class LivenessTimeouts(NamedTuple):
    """How long a peer may be silent."""

    quiet: float = 4.0
    answer: float = 8.0

    @property
    def pause(self) -> float:
        """Between two looks."""
        return min(self.quiet, self.answer) / _LOOKS


class LivenessSample(NamedTuple):
    """What is seen of a connection at one moment; counts of octets since it began."""

    now: float
    received: int
    acknowledged: int
    """By the peer's kernel, of what we sent."""


class Liveness:
    """One connection's silence, watched."""

    def __init__(self, patience: LivenessTimeouts, sight: LivenessSample) -> None:
        self._patience = patience
        self._last = sight
        self._since = sight.now
        self._asking = False
        self._request_end: int | None = None

    def asked(self, sent: int) -> None:
        """The request has been handed to our kernel as the last of so many octets."""
        self._request_end = sent

    def look(self, sight: LivenessSample) -> LivenessAction:
        """Judge the peer; after ASK the request is under way until octets come."""
        last, self._last = self._last, sight
        if sight.received != last.received:
            self._since, self._asking = sight.now, False
            return LivenessAction.ALIVE
        if sight.now - last.now > self._patience.answer / 2:
            self._since = sight.now  # it is we who were away: suspended, or starved of processor time
        if not self._asking:
            if sight.now - self._since < self._patience.quiet:
                return LivenessAction.ALIVE
            self._since, self._asking, self._request_end = sight.now, True, None
            return LivenessAction.ASK
        if sight.acknowledged > last.acknowledged and not self._has_arrived(last):
            self._since = sight.now
        return LivenessAction.DEAD if sight.now - self._since >= self._patience.answer else LivenessAction.ALIVE

    def _has_arrived(self, sight: LivenessSample) -> bool:
        return self._request_end is not None and sight.acknowledged >= self._request_end
