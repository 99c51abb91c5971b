"""The auditd protocol (relay.syslog.auditd_remote) as an answered stream speaks it: a record is proven by its ACK.

A heartbeat is sent first, and only its answer shows that there is an auditd. Another is sent whenever nothing was said
for a while.

auditd acknowledges what it has written into its log, which outlives the process; that the disk has it too is proven
only where its `flush` is "sync".

- DISKLOW: the record is kept; told once a session.
- DISKFULL, DISKERROR, ENDING: the server is unavailable. Nothing is lost: what is not acknowledged is sent again. After
  DISKFULL and DISKERROR the whole interval is: auditd has acknowledged records that were in its buffer only (measured).
- Any other answer with the fatal bit refuses this record.

What is too long for one record is sent in several (relay.events.audit.as_records), counted in `continued`, told once a
session.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from relay.delivery.sessions.speaker import ACCEPTED, Acknowledgement, FarEndStop, ProtocolWording, SpeakerTimeouts
from relay.errors import UnavailableError
from relay.events.audit.as_records import NodeName, as_records
from relay.syslog.auditd_remote import DISKERROR, DISKFULL, ENDING, LARGEST_RECORD, AuditdClient, Reply
from relay.values.event import EventType

_ENDS: Final = {
    DISKFULL: FarEndStop("DISKFULL: its disk is full", "make room on the log server", voids_answers=True),
    DISKERROR: FarEndStop("DISKERROR: its disk fails", "look at the log server's disk", voids_answers=True),
    ENDING: FarEndStop("ENDING: it is stopping", "it is connected to again"),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditdSettings(SpeakerTimeouts):
    """What one session asks of its server; times in seconds."""

    window: int = 256
    """Records without an answer."""
    heartbeat: float = 30.0
    """How long nothing may be said before a heartbeat is sent."""


DEFAULT_SETTINGS: Final = AuditdSettings()


class AuditdSpeaker:
    """An `speaker.Speaker`, of one session."""

    words = ProtocolWording(
        far_end="auditd",
        messages="records",
        opening="a heartbeat",
        when_unanswered="is it an auditd with tcp_listen_port that listens there?",
        when_turned_away="does auditd listen there, and is its tcp_max_per_addr above 1? A tunnel has one address",
        when_stuck="is it stuck, or suspended by a disk action? They are sent again",
    )
    ending = False
    """ENDING ends it at once."""
    exhausted = False
    """Its sequence begins again by itself."""

    def __init__(self, terms: AuditdSettings = DEFAULT_SETTINGS, *, node_name: NodeName = "none") -> None:
        self.terms = terms
        self._node_name = node_name
        self.opened = False
        self.continued = 0
        """Messages that were too long for one record."""
        self._client = AuditdClient()
        self._beating = False  # a heartbeat is unanswered; it is sent when nothing else is, so the next answer is its
        self._warned = False

    @property
    def unanswered(self) -> int:
        """Records and heartbeats without an answer."""
        return self._client.unanswered

    def open(self) -> bytes:
        """The first heartbeat."""
        return self._heartbeat()

    def _heartbeat(self) -> bytes:
        self._beating = True
        return self._client.heartbeat()

    def parts(self, kind: EventType, number: int, message: bytes, committed: int) -> Iterable[bytes]:
        """As audit records."""
        records, continued = as_records(kind, number, message, committed, self._node_name)
        if continued:
            self._note_continued(kind, number)
        return records

    def has_room(self, octets: int) -> bool:
        """By records, whatever their size."""
        del octets
        return self._client.unanswered < self.terms.window

    def send(self, part: bytes) -> bytes:
        """A record's octets."""
        return self._client.message(part)

    def receive(self, data: bytes) -> Iterator[Acknowledgement | FarEndStop]:
        """As the module's docstring says; ProtocolError when it is none of the protocol."""
        for reply in self._client.receive(data):
            if reply.type in _ENDS:
                yield _ENDS[reply.type]
            elif self._beating:
                self._take_heartbeat(reply)
            else:
                yield self._answer(reply)
        if self._client.error is not None:
            raise self._client.error

    def _take_heartbeat(self, reply: Reply) -> None:
        self._beating = False
        if reply.fatal:
            cause = f"it answers a heartbeat with {reply.name}"
            raise UnavailableError(self.words.far_end, cause, "its own log tells why")
        self.opened = True

    def _answer(self, reply: Reply) -> Acknowledgement:
        if reply.fatal:
            return Acknowledgement(reply.name)
        if reply.warning and not self._warned:
            self._warned = True
            _log.warning("the server has kept a record and warns: %s (told once a session)", reply.name)
        return ACCEPTED

    def idle(self, seconds: float) -> bytes:
        """A heartbeat, unless one is on its way."""
        return self._heartbeat() if seconds >= self.terms.heartbeat and not self.unanswered else b""

    def close(self) -> bytes:
        """The protocol has no farewell."""
        return b""

    def _note_continued(self, kind: EventType, number: int) -> None:
        self.continued += 1
        if self.continued == 1:
            sentence = (
                "%s event %d is longer than an auditd record (%d octets); it goes in several (told once a session)"
            )
            _log.warning(sentence, kind.label, number, LARGEST_RECORD)
