"""The protocols that a stream may speak, told apart by its first octets.

A conversation is one stream's protocol without its socket: octets in, messages out, and the octets to answer with.
Syslog never answers: its "accepted" is the clean close. What the messages become is the dialect's to say.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from relay.errors import ProtocolError
from relay.events.audit.received import received_record
from relay.events.audit.record import says_nothing
from relay.syslog import auditd_remote
from relay.syslog.framing import Decoder
from relay.syslog.relp import RelpServer
from relay.values.event import Event, EventType


class Conversation(Protocol):
    """One stream's protocol, on the side that takes messages in. Any cut of the octets gives the same messages."""

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""

    @property
    def oversized(self) -> int:
        """Messages passed over because they are too long."""

    @property
    def error(self) -> ProtocolError | None:
        """What forbids to go on; the messages before it were given, and count."""

    @property
    def closing(self) -> bool:
        """Whether the peer has said, in its protocol, that it ends."""

    def receive(self, data: bytes) -> list[bytes]:
        """Take the stream's next octets; the messages that they complete. Raises `error` once it is set."""

    def accepted(self, messages: int) -> None:
        """So many more messages, the oldest first, are durable: their answers may go out."""

    def reply(self) -> bytes:
        """Take what is to be sent to the peer now; b"" when there is nothing."""

    def finish(self) -> bool:
        """End the stream, at the peer's half-close; whether it ended well."""


class SyslogConversation(Decoder):
    """Syslog framing as a conversation: it has nothing to answer."""

    __slots__ = ()

    closing = False

    def accepted(self, messages: int) -> None:
        """Nobody is told: the clean close is."""

    def reply(self) -> bytes:
        """Nothing."""
        return b""


ToEvent = Callable[[bytes, int, str], Event]
"""Makes an event of a message, at a time in microseconds since the epoch, from a peer."""


def log_event(message: bytes, now: int, peer: str) -> Event:
    """Take a message of another program as it is."""
    del peer
    return Event(EventType.LOG, now, message)


class Dialect(NamedTuple):
    """A protocol that a listener understands."""

    name: str
    begins: bytes
    """What every stream of it begins with; b"" for the one that any other stream is taken for."""
    converse: Callable[[int], Conversation]
    """Begin a conversation with a ceiling for one message, in octets."""
    answers: bool
    """Whether it ever answers."""
    event: ToEvent = log_event
    waits: bool = False
    """Whether its senders may send nothing more until they are answered."""
    parts: bool = False
    """Whether a stop of ours closes its streams: its close accepts nothing, and its senders know a reset for no end."""


RELP: Final = Dialect("relp", b"1 open ", RelpServer, answers=True)
AUDITD: Final = Dialect(
    "auditd",
    auditd_remote.MAGIC_OCTETS,
    lambda limit: auditd_remote.AuditdServer(limit, is_empty=says_nothing),
    answers=True,
    event=received_record,
    waits=True,
    parts=True,
)
SYSLOG: Final = Dialect("syslog", b"", SyslogConversation, answers=False)


ALL: Final = (RELP, AUDITD, SYSLOG)


def dialect_of(begun: bytes, dialects: Sequence[Dialect]) -> Dialect | None:
    """The dialect of a stream that begins so; None while more octets must tell. The last one is taken for the rest."""
    if any(len(begun) < len(dialect.begins) and dialect.begins.startswith(begun) for dialect in dialects[:-1]):
        return None
    return next((dialect for dialect in dialects[:-1] if begun.startswith(dialect.begins)), dialects[-1])
