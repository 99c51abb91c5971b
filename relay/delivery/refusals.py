"""What a far end that acknowledges has refused, and when that is for good (DESIGN section 8, poison messages).

What is refused is sent again at the end of its interval, five times in all. The fifth time the interval's last
accepted message is sent once more behind it: only a far end that takes this one has refused the others for good. One
that accepts nothing is sick: an error, nothing is given up, and all of it is sent again in the next session.

Ceiling: what is refused between two proofs, at most an interval.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from relay.delivery.sessions.delivery_session import RefusedMessage
from relay.errors import UnavailableError
from relay.values.event import EventType
from relay.values.text import quoted

PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds before each time that something is sent again."""


class SentMessage(NamedTuple):
    """A message, or a part of one, that has been sent."""

    place: int
    """Which message of the session it is, counted from 0."""
    run: bytes
    type: EventType
    number: int
    message: bytes
    """As it is stored."""
    part: bytes
    """As it was sent."""


class _Refusal(NamedTuple):
    sent: SentMessage
    answer: str


SendAgain = Callable[[float, Sequence[SentMessage]], None]
"""Sends these after a pause in seconds, and returns when each of them has been answered."""


class Refusals:
    """Of one session. It is told every answer, also those to what it has sent again."""

    def __init__(self, far_end: str, send_again: SendAgain, pauses: Sequence[float] = PAUSES) -> None:
        self._far_end = far_end
        self._send_again = send_again
        self._pauses = pauses
        self._refusals: list[_Refusal] = []  # since the last proof
        self._again: list[SentMessage] = []  # refused, and just being sent again
        self._accepted: SentMessage | None = None  # the last one since the last proof

    def note_accepted(self, sent: SentMessage) -> None:
        """The far end has it."""
        self._accepted = sent

    def note_refused(self, sent: SentMessage, answer: str) -> None:
        """The far end does not take it, and says why."""
        self._refusals.append(_Refusal(sent, answer))

    def open(self) -> list[SentMessage]:
        """What is refused, and may still be accepted."""
        return [*self._again, *(refusal.sent for refusal in self._refusals)]

    def settle(self) -> list[RefusedMessage]:
        """At an interval's end, everything answered: what is refused for good; UnavailableError from a sick far end."""
        accepted, self._accepted = self._accepted, None
        if not self._refusals:
            return []
        if accepted is None:
            raise self._refuses_everything()
        *pauses, last = self._pauses
        for pause in pauses:
            self._try_again(pause)
        self._try_again(last, accepted)
        if self._refusals and self._refusals[-1].sent is accepted:
            raise self._refuses_everything()
        self._accepted = None
        return self._give_up()

    def _try_again(self, pause: float, *behind: SentMessage) -> None:
        self._again = [refusal.sent for refusal in self._refusals]
        self._refusals = []
        if self._again:
            self._send_again(pause, [*self._again, *behind])
            self._again = []

    def _give_up(self) -> list[RefusedMessage]:
        """Each message once, however many of its parts are refused."""
        refusals, self._refusals = self._refusals, []
        for_good = {(sent.run, sent.type, sent.number): (sent.message, answer) for sent, answer in refusals}
        return [RefusedMessage(*identity, message, answer) for identity, (message, answer) in for_good.items()]

    def _refuses_everything(self) -> UnavailableError:
        cause = f"it refuses every message, the last one with {quoted(self._refusals[-1].answer)}"
        return UnavailableError(self._far_end, cause, "its own log tells why; they are kept and sent again")
