"""RELP as an answered stream speaks it: a message is proven by the collector's 200 to it (relay.syslog.relp).

Only the answer to `open` shows that there is a collector. One that refuses a message answers 500. TXNR comes to an end
after a thousand million frames; a new session is opened well before, between two intervals.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from relay.delivery.sessions.speaker import ACCEPTED, Acknowledgement, ProtocolWording, SpeakerTimeouts
from relay.events.audit.parts import parts
from relay.syslog.relp import DEFAULT_WINDOW, RECONNECT_AT, RelpClient, RelpWindow
from relay.values.event import EventType


@dataclass(frozen=True, slots=True, kw_only=True)
class RelpSettings(SpeakerTimeouts):
    """What one session asks of its collector."""

    window: RelpWindow = DEFAULT_WINDOW
    reconnect_at: int = RECONNECT_AT
    """The TXNR from which on a new session is opened."""


DEFAULT_SETTINGS: Final = RelpSettings()


class RelpSpeaker:
    """An `speaker.Speaker`; a message over `max_message_size` goes in parts, or cut."""

    words = ProtocolWording(
        far_end="RELP collector",
        messages="messages",
        opening="RELP's open",
        when_unanswered="is it a RELP collector that listens there?",
        when_turned_away="is it a RELP collector, and is relay let in?",
        when_stuck="is it stuck, or is its disk full? They are sent again",
    )

    def __init__(self, max_message_size: int, terms: RelpSettings = DEFAULT_SETTINGS) -> None:
        self.terms = terms
        self._max_message_size = max_message_size
        self._client = self._new_client()

    def _new_client(self) -> RelpClient:
        return RelpClient(self.terms.window, reconnect_at=self.terms.reconnect_at)

    @property
    def opened(self) -> bool:
        """Whether the collector takes messages."""
        return self._client.opened

    @property
    def unanswered(self) -> int:
        """Frames without an answer."""
        return self._client.unanswered

    @property
    def ending(self) -> bool:
        """Whether it has said `serverclose`."""
        return self._client.server_closes

    @property
    def exhausted(self) -> bool:
        """Whether TXNR comes near its end."""
        return self._client.exhausted

    def open(self) -> bytes:
        """Begin TXNR anew, with `open`."""
        self._client = self._new_client()
        return self._client.open()

    def parts(self, kind: EventType, number: int, message: bytes, committed: int) -> Iterable[bytes]:
        """As the collector's size allows."""
        del kind, number, committed
        return parts(message, self._max_message_size)

    def has_room(self, octets: int) -> bool:
        """By messages and by octets."""
        return self._client.has_room(octets)

    def send(self, part: bytes) -> bytes:
        """A `syslog` frame."""
        return self._client.send(part)

    def receive(self, data: bytes) -> Iterator[Acknowledgement]:
        """200 accepts; ProtocolError when it is none of RELP."""
        for answer in self._client.receive(data):
            yield ACCEPTED if answer.accepted else Acknowledgement(str(answer))
        if self._client.error is not None:
            raise self._client.error

    def idle(self, seconds: float) -> bytes:
        """RELP has no word for it."""
        del seconds
        return b""

    def close(self) -> bytes:
        """`close`; rsyslog logs an error without it."""
        return self._client.close()
