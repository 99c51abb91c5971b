"""RELP for an acknowledged stream: the collector's 200 to a message proves it (relay.syslog.relp).

Only the answer to `open` shows that there is a collector. A collector that refuses a message answers 500. TXNR ends
after a thousand million frames; a new session is opened well before, between two intervals.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from relay.delivery.sessions.delivery_session import MessageId
from relay.delivery.sessions.speaker import Acknowledgement, ProtocolWording, Speaker, SpeakerTimeouts
from relay.events.audit.parts import parts
from relay.syslog.relp import DEFAULT_WINDOW, RECONNECT_AT, RelpClient, RelpWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class RelpSettings(SpeakerTimeouts):
    """The limits of one session with a collector."""

    window: RelpWindow = DEFAULT_WINDOW
    reconnect_at: int = RECONNECT_AT
    """The TXNR from which on a new session is opened."""


DEFAULT_SETTINGS: Final = RelpSettings()


class RelpSpeaker(Speaker):
    """A message over `max_message_size` octets is sent in parts, or truncated."""

    wording = ProtocolWording(
        far_end="RELP collector",
        messages="messages",
        opening="RELP's open",
        when_unanswered="is it a RELP collector that listens there?",
        when_turned_away="is it a RELP collector, and is relay let in?",
        when_stuck="is it stuck, or is its disk full? They are sent again",
    )
    timeouts: RelpSettings = DEFAULT_SETTINGS

    def __init__(self, max_message_size: int, settings: RelpSettings = DEFAULT_SETTINGS) -> None:
        self.timeouts = settings
        self._max_message_size = max_message_size
        self._client = RelpClient()

    @property
    @override
    def opened(self) -> bool:
        return self._client.opened

    @property
    @override
    def unanswered(self) -> int:
        return self._client.unanswered

    @property
    @override
    def ending(self) -> bool:
        return self._client.ending

    @property
    @override
    def exhausted(self) -> bool:
        return self._client.exhausted

    @override
    def open(self) -> bytes:
        self._client = RelpClient(self.timeouts.window, reconnect_at=self.timeouts.reconnect_at)
        return self._client.open()

    @override
    def parts(self, message_id: MessageId, message: bytes, committed: int) -> Iterable[bytes]:
        return parts(message, self._max_message_size)

    @override
    def has_room(self, octets: int) -> bool:
        return self._client.has_room(octets)

    @override
    def send(self, part: bytes) -> bytes:
        return self._client.send(part)

    @override
    def receive(self, data: bytes) -> Iterator[Acknowledgement]:
        for response in self._client.receive(data):
            yield Acknowledgement(str(response), response.accepted)
        if self._client.error is not None:
            raise self._client.error

    @override
    def idle(self, seconds: float) -> bytes:
        return b""

    @override
    def close(self) -> bytes:
        return self._client.close()  # rsyslog logs an error without it
