"""What an answered stream must know of its protocol: octets and values, no pipe and no clock.

A protocol whose far end answers every message in order, and accepts it by that, becomes one of ours by a Speaker.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from relay.delivery.refusals import PAUSES
from relay.values.event import EventType


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerTimeouts:
    """What one session asks of its far end; times in seconds."""

    opening: float = 10.0
    """How long the opening's answer is awaited."""
    answering: float = 60.0
    """How long the oldest unanswered message's answer is awaited."""
    pauses: tuple[float, ...] = PAUSES
    """Before each time that a refused message is sent again."""


class ProtocolWording(NamedTuple):
    """How errors speak of a protocol."""

    far_end: str
    messages: str
    opening: str
    """What opens a session."""
    when_unanswered: str
    """What to look at when the opening is not answered."""
    when_turned_away: str
    """What to look at when the far end closes instead."""
    when_stuck: str
    """What to look at when answers cease."""


class Acknowledgement(NamedTuple):
    """To the oldest message without one."""

    refusal: str
    """What the far end says that it does not like; "" when the message is its own now."""


ACCEPTED: Final = Acknowledgement("")


class FarEndStop(NamedTuple):
    """The far end says, instead of an answer, that it cannot go on."""

    cause: str
    remedy: str
    voids_answers: bool = False
    """Whether what it has answered lately may not be on its disk."""


class Speaker(Protocol):
    """The client's side of a protocol, for one session, or for several one after the other."""

    @property
    def words(self) -> ProtocolWording:
        """For errors."""

    @property
    def terms(self) -> SpeakerTimeouts:
        """For the session."""

    @property
    def opened(self) -> bool:
        """Whether the opening is answered, and messages may be sent."""

    @property
    def unanswered(self) -> int:
        """How much of what was said, messages or not, waits for its answer."""

    @property
    def ending(self) -> bool:
        """Whether the far end has announced the session's end."""

    @property
    def exhausted(self) -> bool:
        """Whether the session should be opened anew once everything is answered."""

    def open(self) -> bytes:
        """Begin anew: the octets that open a session."""

    def parts(self, kind: EventType, number: int, message: bytes, committed: int) -> Iterable[bytes]:
        """A stored message as the protocol can carry it, in one or several."""

    def has_room(self, octets: int) -> bool:
        """Whether the window allows a part of so many octets; it does when nothing is unanswered."""

    def send(self, part: bytes) -> bytes:
        """The octets that carry a part."""

    def receive(self, data: bytes) -> Iterable[Acknowledgement | FarEndStop]:
        """Take what the far end says: first what is in order, then the RelayError that it deserves."""

    def idle(self, seconds: float) -> bytes:
        """What is to be said after so many seconds in which nothing was; b"" for nothing."""

    def close(self) -> bytes:
        """The octets of a farewell, after which nothing is said; b"" for none."""
