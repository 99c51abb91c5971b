"""The auditd protocol for an acknowledged stream: the ACK to a record proves it (relay.syslog.auditd_remote).

A heartbeat is sent first, and only its answer shows that there is an auditd. Another is sent after a time of silence.

auditd acknowledges a record when it has written it into its log, which outlives the process. The record is surely on
the disk only where auditd's `flush` is "sync".

- DISKLOW: the record is kept; logged once a session.
- DISKFULL, DISKERROR, ENDING: the server is unavailable. Nothing is lost: unacknowledged records are sent again. After
  DISKFULL and DISKERROR the whole interval is sent again, because auditd has acknowledged records that were in its
  buffer only (measured).
- Any other answer with the fatal bit refuses this record.

A message too long for one record is sent in several (relay.events.audit.as_records), counted in `continued`, and logged
once a session.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from relay.delivery.sessions.delivery_session import MessageId
from relay.delivery.sessions.speaker import Acknowledgement, FarEndStop, ProtocolWording, Speaker, SpeakerTimeouts
from relay.errors import ProtocolError
from relay.events.audit.as_records import NodeName, as_records
from relay.syslog.auditd_remote import DISKERROR, DISKFULL, ENDING, LARGEST_RECORD, AuditdClient

_STOPS: Final = {
    DISKFULL: FarEndStop("DISKFULL", "its disk is full", "make room on the log server", voids_answers=True),
    DISKERROR: FarEndStop("DISKERROR", "its disk fails", "look at the log server's disk", voids_answers=True),
    ENDING: FarEndStop("ENDING", "it is stopping", "it is connected to again"),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditdSettings(SpeakerTimeouts):
    """The limits of one session with a server; times in seconds."""

    window: int = 256
    """Records without an answer."""
    heartbeat: float = 30.0
    """How long the connection may be silent before a heartbeat is sent."""


DEFAULT_SETTINGS: Final = AuditdSettings()


class AuditdSpeaker(Speaker):
    """Serves one session."""

    wording = ProtocolWording(
        far_end="auditd",
        messages="records",
        opening="a heartbeat",
        when_unanswered="is it an auditd with tcp_listen_port that listens there?",
        when_turned_away="does auditd listen there, and is its tcp_max_per_addr above 1? A tunnel has one address",
        when_stuck="is it stuck, or suspended by a disk action? They are sent again",
    )
    timeouts: AuditdSettings = DEFAULT_SETTINGS
    opened = False
    ending = False
    """Never announced: ENDING ends the session at once."""
    exhausted = False
    """Never: the sequence begins again after its end."""

    def __init__(self, settings: AuditdSettings = DEFAULT_SETTINGS, *, node_name: NodeName = "none") -> None:
        self.timeouts = settings
        self._node_name = node_name
        self.continued = 0
        """Messages that were too long for one record."""
        self._client = AuditdClient()
        self._beating = False  # the next answer is a heartbeat's: one is sent only while nothing else is unanswered
        self._warned = False

    @property
    @override
    def unanswered(self) -> int:
        return self._client.unanswered

    @override
    def renewed(self) -> "AuditdSpeaker":
        return AuditdSpeaker(self.timeouts, node_name=self._node_name)

    @override
    def open(self) -> bytes:
        self._beating = True
        return self._client.heartbeat()

    @override
    def parts(self, message_id: MessageId, message: bytes, committed: int) -> Iterable[bytes]:
        _, kind, number = message_id
        records, continued = as_records(kind, number, message, committed, self._node_name)
        self.continued += continued
        if continued and self.continued == 1:
            sentence = (
                "%s event %d is longer than an auditd record (%d octets); it is sent in several (logged once a session)"
            )
            _log.warning(sentence, kind.label, number, LARGEST_RECORD)
        return records

    @override
    def has_room(self, octets: int) -> bool:
        return self._client.unanswered < self.timeouts.window

    @override
    def send(self, part: bytes) -> bytes:
        return self._client.message(part)

    @property
    @override
    def error(self) -> ProtocolError | None:
        return self._client.error

    @override
    def receive(self, data: bytes) -> list[Acknowledgement | FarEndStop]:
        answers: list[Acknowledgement | FarEndStop] = []
        for reply in self._client.receive(data):
            if reply.type in _STOPS:
                answers.append(_STOPS[reply.type])
            elif not self._beating:
                if reply.accepted and reply.warns and not self._warned:
                    self._warned = True
                    _log.warning("the server has kept a record and warns: %s (logged once a session)", reply)
                answers.append(reply)
            elif not reply.accepted:
                self._beating = False
                answers.append(FarEndStop(str(reply), "it refuses a heartbeat", "its own log names the reason"))
            else:
                self._beating, self.opened = False, True
        return answers

    @override
    def idle(self, seconds: float) -> bytes:
        return self.open() if seconds >= self.timeouts.heartbeat and not self.unanswered else b""

    @override
    def close(self) -> bytes:
        return b""
