"""RELP for an acknowledged stream: the collector's 200 to a message proves it (relay.syslog.relp).

Only the answer to `open` shows that there is a collector. A collector that refuses a message answers 500. TXNR ends
after a thousand million frames; a new session is opened well before, when no message is unanswered.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.delivery.sessions.delivery_session import MessageId
from relay.delivery.sessions.speaker import ProtocolWording, SpeakerTimeouts
from relay.events.audit.parts import parts
from relay.syslog.priority import with_pri
from relay.syslog.relp import DEFAULT_WINDOW, RECONNECT_AT, RelpClient, RelpWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class RelpSettings(SpeakerTimeouts):
    """The limits of one session with a collector."""

    window: RelpWindow = DEFAULT_WINDOW
    reconnect_at: int = RECONNECT_AT
    """The TXNR from which on a new session is opened."""


DEFAULT_SETTINGS: Final = RelpSettings()


class RelpSpeaker(RelpClient):
    """A client as a `speaker.Speaker`; a message over `max_message_size` octets is sent in parts, or truncated."""

    wording = ProtocolWording(
        far_end="RELP collector",
        messages="messages",
        opening="RELP's open",
        when_unanswered="is it a RELP collector that listens there?",
        when_turned_away="is it a RELP collector, and is relay let in?",
        when_stuck="is it stuck, or is its disk full? They are sent again",
    )

    def __init__(self, max_message_size: int, settings: RelpSettings = DEFAULT_SETTINGS) -> None:
        super().__init__(settings.window, reconnect_at=settings.reconnect_at)
        self.timeouts = settings
        self._max_message_size = max_message_size

    def renewed(self) -> "RelpSpeaker":
        """A speaker whose TXNR begins at 1."""
        return RelpSpeaker(self._max_message_size, self.timeouts)

    def parts(self, message_id: MessageId, message: bytes, committed: int) -> Iterable[bytes]:
        """An audit event in parts of whole records, any other message in one. Each has a PRI."""
        del message_id, committed
        return parts(with_pri(message), self._max_message_size)

    def idle(self, seconds: float) -> bytes:
        """Nothing: RELP has no heartbeat."""
        del seconds
        return b""
