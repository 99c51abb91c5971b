"""The client's side of a protocol whose far end acknowledges every message in order: octets and values, no I/O.

`relp_speaker` and `auditd_speaker` are the two; `acknowledged_stream.AcknowledgedStream` runs either on a stream.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from relay.delivery.sessions.delivery_session import MessageId
from relay.errors import ProtocolError

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


class Acknowledgement(Protocol):
    """The answer to the oldest unanswered message; as text it is the far end's words, for people."""

    @property
    def accepted(self) -> bool:
        """Whether the far end has the message for good."""

    @property
    def warns(self) -> bool:
        """Whether the far end has accepted the message and warns, as of a disk that fills."""


class FarEndStop(NamedTuple):
    """The far end's notice, in place of an answer, that it cannot go on."""

    name: str
    cause: str
    remedy: str
    voids_answers: bool = False
    """Whether messages that it has acknowledged lately may not be on its disk."""


class Speaker(Protocol):
    """Serves one session."""

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
        """Whether another session should be opened once everything is answered."""

    def renewed(self) -> "Speaker":
        """A speaker for another session, when this one is exhausted."""

    def open(self) -> bytes:
        """The octets that open the session."""

    def parts(self, message_id: MessageId, message: bytes, committed: int) -> Iterable[bytes]:
        """A stored message as the protocol can carry it, in one part or several."""

    def has_room(self, octets: int) -> bool:
        """Whether the window allows a part of so many octets; always when nothing is unanswered."""

    def send(self, part: bytes) -> bytes:
        """The octets that carry a part."""

    @property
    def error(self) -> ProtocolError | None:
        """How the far end has broken the protocol; answers before that count."""

    def receive(self, data: bytes) -> Sequence[Acknowledgement | FarEndStop]:
        """The answers that the far end's next octets complete. Raises `error` once it is set."""

    def idle(self, seconds: float) -> bytes:
        """The octets to send after so many seconds of silence; b"" for none."""

    def close(self) -> bytes:
        """The octets of a farewell, the last of the session; b"" for none."""
