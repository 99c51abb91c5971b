"""The auditd protocol (relay.syslog.auditd_remote) over a byte pipe: a record is proven by the server's answer to it.

Records are sent ahead of their answers as far as the window allows, and answers are read while sending: otherwise both
sides could block for ever. Over SSH the local connect always succeeds, so a heartbeat is sent first, and only its
answer proves that there is an auditd. Another is sent whenever nothing was said for a while.

auditd acknowledges what it has written into its log, which outlives the process; that the disk has it too is proven
only where its `flush` is "sync".

- DISKLOW: the record is kept; told once a session.
- DISKFULL, DISKERROR, ENDING: the server is unavailable. Nothing is lost: what is not acknowledged is sent again.
- Any other answer with the fatal bit refuses this record, as `relay.delivery.refusals` says.

What is too long for one record is sent in several (relay.audit.as_records), counted in `continued`, told once a
session. Ceilings: the window, and what was refused since the last proof.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relay.audit.as_records import as_records
from relay.crash_point import crash_point
from relay.delivery.refusals import PAUSES, Refusals, Sent
from relay.errors import TemporaryError, UnavailableError
from relay.event import EventType
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.syslog.auditd_remote import DISKERROR, DISKFULL, ENDING, LARGEST_RECORD, AuditdClient, Reply
from relay.transport import Transport

if TYPE_CHECKING:
    from relay.delivery.session import Refused

WRITE: Final = 64 * 1024
_GLANCE: Final = 0.25  # seconds between two looks at the event that stops it
_SERVER: Final = "auditd"

_UNAVAILABLE: Final = {
    DISKFULL: ("its disk is full", "make room on the log server"),
    DISKERROR: ("its disk fails", "look at the log server's disk"),
    ENDING: ("it is stopping", "it is connected to again"),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditdTerms:
    """What one session asks of its server; times in seconds."""

    window: int = 256
    """Records without an answer."""
    opening: float = 10.0
    """How long the first heartbeat's answer is awaited."""
    answering: float = 60.0
    """How long the oldest unanswered record's answer is awaited, and that of a later heartbeat."""
    heartbeat: float = 30.0
    """How long nothing may be said before a heartbeat is sent."""
    pauses: tuple[float, ...] = PAUSES
    """Before each time that a refused record is sent again."""


DEFAULT_TERMS: Final = AuditdTerms()


class AuditdStream:
    """A session (see `session.Session`) over a transport; owns and closes it. `stop` ends the wait for its opening."""

    proof = "acknowledged"

    def __init__(
        self, transport: Transport, stop: threading.Event, *, wanted: int, terms: AuditdTerms = DEFAULT_TERMS
    ) -> None:
        self.refused: list[Refused] = []
        """What the last proven interval left out: refused for good."""
        self.continued = 0
        """Messages that were too long for one record."""
        self._transport = transport
        self._stop = stop
        self._wanted = wanted
        self._terms = terms
        self._client = AuditdClient()
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._sent: deque[Sent | None] = deque()  # unanswered, oldest first; None for a heartbeat
        self._refusals = Refusals(_SERVER, self._send_again, terms.pauses)
        self._warned = False
        self._opened = False
        self._pipe = transport.open()
        self._open()

    def _open(self) -> None:
        self._send_heartbeat()
        deadline = self._spoken + self._terms.opening
        while self._sent and not self._stop.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                cause = f"no answer to a heartbeat within {self._terms.opening:g} s"
                raise TemporaryError(_SERVER, cause, "is it an auditd with tcp_listen_port that listens there?")
            self._read(min(left, _GLANCE))
        self._opened = True

    def send(self, block: Block) -> None:
        """Send what is wanted of a block, as far as the window allows; then wait for answers."""
        run, committed = block.header.run, block.header.committed
        for kind, number, message in block.messages():
            if self._wanted >> kind & 1:
                records, continued = as_records(kind, number, message, committed)
                if continued:
                    self._note_continued(kind, number)
                for record in records:
                    self._submit(Sent(run, kind, number, message, record))

    def prove(self, cursor: Cursor) -> Cursor:
        """Return once every record is acknowledged, or refused for good."""
        self._flush()
        crash_point("interval-sent")
        self._await_all()
        self.refused = self._refusals.settle()
        crash_point("interval-proven")
        return cursor

    def check(self) -> None:
        """Read what the server says while idle; ask whether it lives when nothing was said for a while."""
        if not self._transport.alive:
            raise UnavailableError(_SERVER, "the connection is lost", "it is opened again")
        while self._read(0):
            pass
        silent = time.monotonic() - self._spoken
        if self._sent and silent >= self._terms.answering:
            raise self._silent()
        if not self._sent and silent >= self._terms.heartbeat:
            self._send_heartbeat()

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()

    # --- Sending, and reading while sending ---

    def _submit(self, sent: Sent) -> None:
        if len(self._sent) >= self._terms.window:
            self._flush()
            while len(self._sent) > self._terms.window // 2:  # so that the next write is a large one again
                self._await_answer()
        data = self._client.message(sent.part)
        self._buffer.append(data)
        self._buffered += len(data)
        self._sent.append(sent)
        if self._buffered >= WRITE:
            self._flush()
            self._read(0)

    def _flush(self) -> None:
        if self._buffer:
            data = b"".join(self._buffer)
            self._buffer.clear()
            self._buffered = 0
            self._pipe.send(data)

    def _send_heartbeat(self) -> None:
        try:
            self._pipe.send(self._client.heartbeat())
        except UnavailableError as error:
            raise self._lost(error) from error
        self._sent.append(None)
        self._spoken = time.monotonic()

    def _await_all(self) -> None:
        while self._sent:
            self._await_answer()

    def _await_answer(self) -> None:
        """Return once the oldest unanswered record is answered, and whatever came with that answer is read."""
        unanswered = len(self._sent)
        deadline = time.monotonic() + self._terms.answering
        while len(self._sent) == unanswered:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._silent()
            self._read(left)

    def _send_again(self, pause: float, refused: Sequence[Sent]) -> None:
        deadline = time.monotonic() + pause
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)
        for sent in refused:
            self._submit(sent)
        self._flush()
        self._await_all()

    def _read(self, timeout: float) -> bool:
        """Take in what the server says, if anything comes in time; raise when that ends the session."""
        data = self._receive(timeout)
        if data is None:
            return False
        self._spoken = time.monotonic()
        for reply in self._client.receive(data):
            self._take(reply)
        if self._client.error is not None:
            raise self._client.error
        if not data:
            raise self._ended()
        return True

    def _receive(self, timeout: float) -> bytes | None:
        try:
            return self._pipe.receive(timeout)
        except UnavailableError as error:
            raise self._lost(error) from error

    def _take(self, reply: Reply) -> None:
        if reply.type in _UNAVAILABLE:
            why, remedy = _UNAVAILABLE[reply.type]
            unacknowledged = len(self._sent)
            raise UnavailableError(_SERVER, f"{reply.name}: {why}; {unacknowledged} records were unanswered", remedy)
        sent = self._sent.popleft()
        if sent is None:
            if reply.fatal:
                raise UnavailableError(_SERVER, f"it answers a heartbeat with {reply.name}", "its own log tells why")
        elif reply.fatal:
            self._refusals.note_refused(sent, reply.name)
        else:
            self._refusals.note_accepted(sent)
            self._note_warning(reply)

    # --- What is told ---

    def _note_warning(self, reply: Reply) -> None:
        if reply.warning and not self._warned:
            self._warned = True
            _log.warning("the server has kept a record and warns: %s (told once a session)", reply.name)

    def _note_continued(self, kind: EventType, number: int) -> None:
        self.continued += 1
        if self.continued == 1:
            sentence = (
                "%s event %d is longer than an auditd record (%d octets); it goes in several (told once a session)"
            )
            _log.warning(sentence, kind.label, number, LARGEST_RECORD)

    def _silent(self) -> TemporaryError:
        cause = f"no answer for {self._terms.answering:g} s; {len(self._sent)} records wait for theirs"
        return TemporaryError(_SERVER, cause, "is it stuck, or suspended by a disk action? They are sent again")

    def _lost(self, error: UnavailableError) -> UnavailableError:
        """What is to be told: a server that turns us away may do it by a reset; but the way itself may be broken."""
        return self._ended() if self._transport.alive and not self._opened else error

    def _ended(self) -> UnavailableError:
        if self._opened:
            cause = f"it closed the connection; {len(self._sent)} records were unanswered"
            return UnavailableError(_SERVER, cause, "its own log tells why")
        cause = "it closed the connection before it answered a heartbeat"
        return UnavailableError(
            _SERVER, cause, "does auditd listen there, and is its tcp_max_per_addr above 1? A tunnel has one address"
        )
