"""RELP over a byte pipe: a message is proven by the collector's own answer to it (relay.syslog.relp).

Messages are sent ahead of their answers as far as the window allows, and answers are read while sending: otherwise both
sides could block for ever. Over SSH the local connect always succeeds, so only the answer to `open` proves that there
is a far end: the constructor waits for it. What is unanswered when the session ends is sent again in the next one.

A message that the collector refuses (it answers 500) is treated as `relay.delivery.refusals` says.

Ceilings: the window, and what was refused since the last proof. TXNR comes to an end after a thousand million frames;
a new session is opened well before, between two intervals.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relay.audit.parts import parts
from relay.crash_point import crash_point
from relay.delivery.refusals import PAUSES, Refusals, Sent
from relay.errors import TemporaryError, UnavailableError
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.syslog.relp import DEFAULT_WINDOW, RECONNECT_AT, Answer, RelpClient, Window
from relay.transport import Transport

if TYPE_CHECKING:
    from relay.delivery.session import Refused

WRITE: Final = 64 * 1024
_GLANCE: Final = 0.25  # seconds between two looks at the event that stops it
_COLLECTOR: Final = "RELP collector"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelpTerms:
    """What one session asks of its collector; times in seconds."""

    window: Window = DEFAULT_WINDOW
    opening: float = 10.0
    """How long the answer to `open` is awaited."""
    answering: float = 60.0
    """How long the oldest unanswered message's answer is awaited."""
    pauses: tuple[float, ...] = PAUSES
    """Before each time that a refused message is sent again."""
    reconnect_at: int = RECONNECT_AT


DEFAULT_TERMS: Final = RelpTerms()


class RelpStream:
    """A session (see `session.Session`) over a transport; owns and closes it. `stop` ends the wait for its opening."""

    proof = "acknowledged"

    def __init__(
        self,
        transport: Transport,
        stop: threading.Event,
        *,
        wanted: int,
        max_message_size: int,
        terms: RelpTerms = DEFAULT_TERMS,
    ) -> None:
        self.refused: list[Refused] = []
        """What the last proven interval left out: refused for good."""
        self._transport = transport
        self._stop = stop
        self._wanted = wanted
        self._max_message_size = max_message_size
        self._terms = terms
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._sent: deque[Sent] = deque()  # unanswered, oldest first
        self._refusals = Refusals(_COLLECTOR, self._send_again, terms.pauses)
        self._open()

    def _open(self) -> None:
        self._pipe = self._transport.open()
        self._client = RelpClient(self._terms.window, reconnect_at=self._terms.reconnect_at)
        self._pipe.send(self._client.open())
        deadline = time.monotonic() + self._terms.opening
        while not self._client.opened and not self._stop.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                cause = f"no answer to RELP's open within {self._terms.opening:g} s"
                raise TemporaryError(_COLLECTOR, cause, "is it a RELP collector that listens there?")
            self._read(min(left, _GLANCE))

    def send(self, block: Block) -> None:
        """Send what is wanted of a block, as far as the window allows; then wait for answers."""
        if self._client.exhausted and not self._sent:  # so it is with the first block after a proof
            self._renew()
        run = block.header.run
        for kind, number, message in block.messages():
            if self._wanted >> kind & 1:
                for part in parts(message, self._max_message_size):
                    self._submit(Sent(run, kind, number, message, part))

    def prove(self, cursor: Cursor) -> Cursor:
        """Return once every message is answered 200, or refused for good."""
        self._flush()
        crash_point("interval-sent")
        self._await_all()
        self.refused = self._refusals.settle()
        crash_point("interval-proven")
        return cursor

    def check(self) -> None:
        """Read what the collector says while idle: it may announce its end, or have gone."""
        if not self._transport.alive:
            raise UnavailableError(_COLLECTOR, "the connection is lost", "it is opened again")
        self._read_all()
        if self._client.server_closes:
            raise self._ended()

    def close(self) -> None:
        """Close the transport; `close` is not said, since this may come while a frame is being sent."""
        self._transport.close()

    # --- Sending, and reading while sending ---

    def _submit(self, sent: Sent) -> None:
        while not self._client.has_room(len(sent.part)):
            self._flush()
            self._await_answer()
        if self._client.server_closes:  # it may still answer what it has, and nothing more
            raise self._ended()
        frame = self._client.send(sent.part)
        self._buffer.append(frame)
        self._buffered += len(frame)
        self._sent.append(sent)
        if self._buffered >= WRITE:
            self._flush()
            self._read_all()

    def _flush(self) -> None:
        if self._buffer:
            data = b"".join(self._buffer)
            self._buffer.clear()
            self._buffered = 0
            self._pipe.send(data)

    def _await_all(self) -> None:
        while self._sent:
            self._await_answer()

    def _await_answer(self) -> None:
        """Return once the oldest unanswered message is answered, and whatever came with that answer is read."""
        unanswered = len(self._sent)
        deadline = time.monotonic() + self._terms.answering
        while len(self._sent) == unanswered:
            left = deadline - time.monotonic()
            if left <= 0:
                cause = f"no answer for {self._terms.answering:g} s; {unanswered} messages wait for theirs"
                raise TemporaryError(_COLLECTOR, cause, "is it stuck, or is its disk full? They are sent again")
            self._read(left)

    def _read_all(self) -> None:
        while self._read(0):
            pass

    def _read(self, timeout: float) -> bool:
        """Take in what the collector says, if anything comes in time; raise what forbids to go on."""
        data = self._pipe.receive(timeout)
        if data is None:
            return False
        for answer in self._client.receive(data):
            self._take(answer)
        if self._client.error is not None:
            raise self._client.error
        if not data:
            raise self._ended()
        return True

    def _take(self, answer: Answer) -> None:
        sent = self._sent.popleft()
        if answer.accepted:
            self._refusals.note_accepted(sent)
        else:
            self._refusals.note_refused(sent, str(answer))

    def _ended(self) -> UnavailableError:
        how = "announced the session's end" if self._client.server_closes else "closed the connection"
        if not self._client.opened:
            cause, remedy = f"it {how} before it answered RELP's open", "is it a RELP collector, and is relay let in?"
        else:
            cause, remedy = f"it {how}; {len(self._sent)} messages were unanswered", "its own log tells why"
        return UnavailableError(_COLLECTOR, cause, remedy)

    def _send_again(self, pause: float, refused: Sequence[Sent]) -> None:
        deadline = time.monotonic() + pause
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)
        for sent in refused:
            self._submit(sent)
        self._flush()
        self._await_all()

    def _renew(self) -> None:
        """Begin TXNR anew; everything sent is answered, so nothing hangs on the old session."""
        self._pipe.send(self._client.close())
        self._pipe.close()
        self._open()
