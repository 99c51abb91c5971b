"""When a silent SSH peer is dead. Pure: samples of a connection in, an action out.

Only octets from the peer prove that it lives. After `quiet` seconds without any, relay asks for some
(keepalive@openssh.com with want-reply, which every server answers, even if a channel is full). After `answer` more
seconds without any, the peer is dead.

This second wait begins when the peer's kernel has acknowledged the request. Until then the request may be queued behind
data on a slow link, and each further acknowledgement restarts the wait. Once the request has arrived, acknowledgements
prove nothing, because the kernel of a frozen process continues to acknowledge.
Times are seconds of a monotonic clock.
"""

import enum
from typing import Final, NamedTuple

_CHECKS: Final = 8  # in the shorter of the two times


class LivenessAction(enum.Enum):
    """What to do about the peer."""

    ALIVE = "alive"
    ASK = "ask"
    DEAD = "dead"


class LivenessTimeouts(NamedTuple):
    """How long a peer may be silent, in seconds."""

    quiet: float = 4.0
    answer: float = 8.0

    @property
    def interval(self) -> float:
        """Seconds between two checks."""
        return min(self.quiet, self.answer) / _CHECKS


class LivenessSample(NamedTuple):
    """A connection at one moment; counts of octets since it began."""

    now: float
    received: int
    acknowledged: int  # by the peer's kernel, of the octets that we sent


class Liveness:
    """The silence of one connection."""

    def __init__(self, timeouts: LivenessTimeouts, sample: LivenessSample) -> None:
        self._timeouts = timeouts
        self._last = sample
        self._since = sample.now
        self._asking = False
        self._request_end: int | None = None

    def asked(self, sent: int) -> None:
        """The request was handed to our kernel as the last of so many octets."""
        self._request_end = sent

    def check(self, sample: LivenessSample) -> LivenessAction:
        """Judge the peer; after ASK the request counts as pending until octets arrive."""
        last, self._last = self._last, sample
        if sample.received != last.received:
            self._since, self._asking = sample.now, False
            return LivenessAction.ALIVE
        if sample.now - last.now > self._timeouts.answer / 2:
            self._since = sample.now  # relay itself did not run: the machine was suspended or overloaded
        if not self._asking:
            if sample.now - self._since < self._timeouts.quiet:
                return LivenessAction.ALIVE
            self._since, self._asking, self._request_end = sample.now, True, None
            return LivenessAction.ASK
        has_arrived = self._request_end is not None and last.acknowledged >= self._request_end
        if sample.acknowledged > last.acknowledged and not has_arrived:
            self._since = sample.now
        return LivenessAction.DEAD if sample.now - self._since >= self._timeouts.answer else LivenessAction.ALIVE
