"""Messages that a far end refuses: when they are sent again, and when the refusal is for good.

A refused message is sent again at the end of its interval, five times in all. The fifth time the interval's last
accepted message is sent once more behind it: only a far end that accepts that one has refused the others for good. A
far end that accepts nothing is unwell: that is an error, no message is given up, and all are sent again in the next
session.

Ceiling: the messages refused between two proofs, at most an interval.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from relay.delivery.sessions.delivery_session import MessageId, RefusedMessage
from relay.delivery.sessions.far_end_errors import EverythingRefusedError
from relay.delivery.sessions.speaker import Acknowledgement


class SentMessage(NamedTuple):
    """A message, or a part of one, that has been sent."""

    position: int
    """Of the message within the session, counted from 0."""
    id: MessageId
    message: bytes
    """As stored."""
    part: bytes
    """As sent."""


class _Refusal(NamedTuple):
    sent: SentMessage
    answer: str


SendAgain = Callable[[float, Sequence[SentMessage]], None]
"""Sends messages again after a pause in seconds, and returns when each of them is answered."""


class Refusals:
    """The refusals of one session; `note` every answer, also those to messages sent again."""

    def __init__(self, far_end: str, send_again: SendAgain, pauses: Sequence[float]) -> None:
        self._far_end = far_end
        self._send_again = send_again
        self._pauses = pauses
        self._refusals: list[_Refusal] = []  # since the last proof
        self._in_retry: list[SentMessage] = []  # refused, and being sent again
        self._accepted: SentMessage | None = None  # the last one since the last proof

    def note(self, sent: SentMessage, answer: Acknowledgement) -> None:
        """Note the answer to a message."""
        if answer.accepted:
            self._accepted = sent
        else:
            self._refusals.append(_Refusal(sent, str(answer)))

    def open(self) -> list[SentMessage]:
        """The messages that are refused and may still be accepted."""
        return [*self._in_retry, *(refusal.sent for refusal in self._refusals)]

    def settle(self) -> list[RefusedMessage]:
        """End an interval whose messages are all answered: the messages refused for good, each once.

        EverythingRefusedError when the far end accepts nothing.
        """
        accepted, self._accepted = self._accepted, None
        if not self._refusals:
            return []
        if accepted is None:
            raise EverythingRefusedError(self._far_end, self._refusals[-1].answer)
        *pauses, last = self._pauses
        for pause in pauses:
            self._retry(pause)
        self._retry(last, accepted)
        if self._refusals and self._refusals[-1].sent is accepted:
            raise EverythingRefusedError(self._far_end, self._refusals[-1].answer)
        self._accepted = None
        refusals, self._refusals = self._refusals, []
        by_message = {sent.id: RefusedMessage(sent.id, sent.message, answer) for sent, answer in refusals}
        return list(by_message.values())

    def _retry(self, pause: float, *behind: SentMessage) -> None:
        self._in_retry = [refusal.sent for refusal in self._refusals]
        self._refusals = []
        if self._in_retry:
            self._send_again(pause, [*self._in_retry, *behind])
            self._in_retry = []
