"""The client's side of a protocol whose far end acknowledges every message in order: octets and values, no I/O.

`relp_speaker` and `auditd_speaker` are the two; `acknowledged_stream.AcknowledgedStream` runs either on a stream.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from relay.delivery.sessions.delivery_session import MessageId

PAUSES: Final = (0.05, 0.1, 0.2, 0.4)
"""Seconds before each time that a refused message is sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerTimeouts:
    """How long a session waits for its far end, in seconds."""

    opening: float = 10.0
    """For the answer to the opening."""
    answering: float = 60.0
    """For the answer to the oldest unanswered message."""
    pauses: tuple[float, ...] = PAUSES
    """Before each time that a refused message is sent again."""


class ProtocolWording(NamedTuple):
    """The words of a protocol in errors."""

    far_end: str
    messages: str
    opening: str
    """The question that opens a session."""
    when_unanswered: str
    """The remedy when the opening is not answered."""
    when_turned_away: str
    """The remedy when the far end closes the connection instead."""
    when_stuck: str
    """The remedy when answers cease."""


class Acknowledgement(NamedTuple):
    """The answer to the oldest unanswered message."""

    text: str
    """The far end's words, for people."""
    accepted: bool
    warns: bool = False
    """Whether the far end has accepted the message and warns, as of a disk that fills."""


class FarEndStop(NamedTuple):
    """The far end's notice, in place of an answer, that it cannot go on."""

    name: str
    cause: str
    remedy: str
    voids_answers: bool = False
    """Whether messages that it has acknowledged lately may not be on its disk."""


class Speaker(Protocol):
    """Serves one session, or several one after the other."""

    @property
    def wording(self) -> ProtocolWording:
        """For errors."""

    @property
    def timeouts(self) -> SpeakerTimeouts:
        """For the session."""

    @property
    def opened(self) -> bool:
        """Whether the opening is answered, and messages may be sent."""

    @property
    def unanswered(self) -> int:
        """How many frames, of messages or not, wait for their answer."""

    @property
    def ending(self) -> bool:
        """Whether the far end has announced the session's end."""

    @property
    def exhausted(self) -> bool:
        """Whether the session should be opened anew once everything is answered."""

    def open(self) -> bytes:
        """Begin anew: the octets that open a session."""

    def parts(self, message_id: MessageId, message: bytes, committed: int) -> Iterable[bytes]:
        """A stored message as the protocol can carry it, in one part or several."""

    def has_room(self, octets: int) -> bool:
        """Whether the window allows a part of so many octets; always when nothing is unanswered."""

    def send(self, part: bytes) -> bytes:
        """The octets that carry a part."""

    def receive(self, data: bytes) -> Iterable[Acknowledgement | FarEndStop]:
        """The answers in the octets received; after them the RelayError when the far end broke the protocol."""

    def idle(self, seconds: float) -> bytes:
        """The octets to send after so many seconds of silence; b"" for none."""

    def close(self) -> bytes:
        """The octets of a farewell, the last of the session; b"" for none."""
