"""A byte pipe to a far end that answers every message: what it has accepted is proven.

Messages are sent ahead of their answers as far as the window allows, and answers are read while sending: otherwise both
sides could block for ever. Over SSH the local connect always succeeds, so only an answer proves that there is a far
end: the constructor waits for the opening's. What is unanswered when the session ends is sent again in the next one;
what is refused is treated as `relay.delivery.refusals` says.

What differs from protocol to protocol is its `speaker.Speaker`: `relp_stream`, `auditd_stream`.

Ceilings: the speaker's window, and what was refused since the last proof.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from relay.delivery.message_selection import MessageSelection
from relay.delivery.refusals import Refusals, SentMessage
from relay.delivery.sessions.delivery_session import NOTHING_PROVEN, FaultSearch, MessageId, ProvenExtent
from relay.delivery.sessions.speaker import Acknowledgement, FarEndStop, Speaker
from relay.errors import RelayError, TemporaryError, UnavailableError
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.system.crash_point import crash_point
from relay.transport import Transport

if TYPE_CHECKING:
    from relay.delivery.sessions.delivery_session import RefusedMessage

WRITE: Final = 64 * 1024
FAREWELL_SECONDS: Final = 1.0
"""How long the answer to a farewell is awaited; nothing depends on it."""
_GLANCE: Final = 0.25  # seconds between two looks at the event that stops it


class AcknowledgedStream:
    """A session (see `session.Session`) over a transport; owns and closes it. `stop` ends the wait for its opening."""

    proof = "acknowledged"
    search = FaultSearch.SINGLY

    def __init__(
        self, transport: Transport, stop: threading.Event, speaker: Speaker, *, selection: MessageSelection
    ) -> None:
        self.refused: list[RefusedMessage] = []
        """What the last proven interval left out: refused for good."""
        self._transport = transport
        self._stop = stop
        self._speaker = speaker
        self._selection = selection
        self._words = speaker.words
        self._terms = speaker.terms
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._sent: deque[SentMessage] = deque()  # unanswered, oldest first
        self._place = 0  # of the message that is being sent, or the next one
        self._submitting: MessageId | None = None
        self._void = False  # what it has answered is worth nothing
        self._refusals = Refusals(self._words.far_end, self._send_again, self._terms.pauses)
        self._heard = time.monotonic()
        self._open()

    def _open(self) -> None:
        self._pipe = self._transport.open()
        self._say(self._speaker.open())
        if not self._read_until(lambda: self._speaker.opened or self._stop.is_set(), self._terms.opening):
            cause = f"no answer to {self._words.opening} within {self._terms.opening:g} s"
            raise TemporaryError(self._words.far_end, cause, self._words.when_unanswered)

    def send(self, block: Block) -> None:
        """Send what is wanted of a block, as far as the window allows; then wait for answers."""
        if self._speaker.exhausted and not self._sent:  # so it is with the first block after a proof
            self._renew()
        run, committed = block.header.run, block.header.committed
        for kind, number, message in self._selection.messages(block):
            self._submitting = MessageId(run, kind, number)
            for part in self._speaker.parts(kind, number, message, committed):
                self._submit(SentMessage(self._place, run, kind, number, message, part))
            self._submitting = None
            self._place += 1

    def prove(self, cursor: Cursor) -> Cursor:
        """Return once every message is accepted, or refused for good."""
        self._flush()
        crash_point("interval-sent")
        self._await_all()
        self.refused = self._refusals.settle()
        crash_point("interval-proven")
        return cursor

    def proven_extent(self) -> ProvenExtent:
        """Everything before the first message that is unanswered, or refused and not for good."""
        with contextlib.suppress(RelayError):  # what has come before the loss
            self._read_all()
        if self._void:
            return NOTHING_PROVEN
        unanswered = min((*self._sent, *self._refusals.open()), key=lambda sent: sent.place, default=None)
        if unanswered is not None:
            return ProvenExtent(up_to=MessageId(unanswered.run, unanswered.type, unanswered.number))
        return ProvenExtent(everything=self._submitting is None, up_to=self._submitting)

    @property
    def alive(self) -> bool:
        """Whether the transport is."""
        return self._transport.alive

    @property
    def owing(self) -> bool:
        """Whether an answer is due."""
        return self._speaker.unanswered > 0

    @property
    def heard(self) -> float:
        """When the far end last answered, or a heartbeat was sent that it has to answer."""
        return self._heard

    def check(self) -> None:
        """Read what the far end says while idle: it may announce its end, or have gone, or be silent for too long."""
        if not self._transport.alive:
            raise UnavailableError(self._words.far_end, "the connection is lost", "it is opened again")
        self._read_all()
        if self._speaker.ending:
            raise self._ended()
        silence = time.monotonic() - self._spoken
        if self._speaker.unanswered and silence >= self._terms.answering:
            raise self._silent()
        if said := self._speaker.idle(silence):
            self._heard = time.monotonic()  # from now on an answer is due
            self._say(said)

    def end(self) -> None:
        """Say farewell, where the protocol has one and everything is answered."""
        if not self._speaker.unanswered and (farewell := self._speaker.close()):
            with contextlib.suppress(RelayError):  # it is a courtesy
                self._say(farewell)
                self._read_until(lambda: not self._speaker.unanswered, FAREWELL_SECONDS)

    def close(self) -> None:
        """Close the transport; nothing is said, since this may come while a frame is being sent."""
        self._transport.close()

    def _renew(self) -> None:
        """Begin anew; everything sent is answered, so nothing hangs on the old session."""
        self.end()
        self._pipe.close()
        self._open()

    # --- Sending, and reading while sending ---

    def _submit(self, sent: SentMessage) -> None:
        if not self._speaker.has_room(len(sent.part)):
            self._make_room(len(sent.part))
        if self._speaker.ending:  # it may still answer what it has, and nothing more
            raise self._ended()
        frame = self._speaker.send(sent.part)
        self._buffer.append(frame)
        self._buffered += len(frame)
        self._sent.append(sent)
        if self._buffered >= WRITE:
            self._flush()
            self._read_all()

    def _make_room(self, octets: int) -> None:
        """Wait until one more fits, and no longer: a sender that falls silent has small answers held back (Nagle)."""
        self._flush()
        while not self._speaker.has_room(octets):
            self._await_answer()

    def _send_again(self, pause: float, refused: Sequence[SentMessage]) -> None:
        self._read_until(lambda: False, pause)
        for sent in refused:
            self._submit(sent)
        self._flush()
        self._await_all()

    def _flush(self) -> None:
        if self._buffer:
            data = b"".join(self._buffer)
            self._buffer.clear()
            self._buffered = 0
            self._say(data)

    def _say(self, data: bytes) -> None:
        try:
            self._pipe.send(data)
        except UnavailableError as error:
            raise self._lost(error) from error
        self._spoken = time.monotonic()

    def _await_all(self) -> None:
        while self._speaker.unanswered:
            self._await_answer()

    def _await_answer(self) -> None:
        """Return once the oldest unanswered message is answered, and whatever came with that answer is read."""
        before = self._speaker.unanswered
        if not self._read_until(lambda: self._speaker.unanswered < before, self._terms.answering):
            raise self._silent()

    def _read_until(self, done: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._read(min(left, _GLANCE))
        return True

    def _read_all(self) -> None:
        while self._read(0):
            pass

    def _read(self, timeout: float) -> bool:
        """Take in what the far end says, if anything comes in time; raise what forbids to go on."""
        data = self._receive(timeout)
        if data is None:
            return False
        self._spoken = self._heard = time.monotonic()
        for answer in self._speaker.receive(data):
            self._take(answer)
        if not data:
            raise self._ended()
        return True

    def _receive(self, timeout: float) -> bytes | None:
        try:
            return self._pipe.receive(timeout)
        except UnavailableError as error:
            raise self._lost(error) from error

    def _take(self, answer: Acknowledgement | FarEndStop) -> None:
        if isinstance(answer, FarEndStop):
            self._void = answer.voids_answers
            raise UnavailableError(self._words.far_end, f"{answer.cause}; {self._left()}", answer.remedy)
        sent = self._sent.popleft()
        if answer.refusal:
            self._refusals.note_refused(sent, answer.refusal)
        else:
            self._refusals.note_accepted(sent)

    # --- What is told ---

    def _left(self) -> str:
        return f"{len(self._sent)} {self._words.messages} were unanswered"

    def _silent(self) -> TemporaryError:
        waiting = f"{len(self._sent)} {self._words.messages} wait for theirs"
        cause = f"no answer for {self._terms.answering:g} s; {waiting}"
        return TemporaryError(self._words.far_end, cause, self._words.when_stuck)

    def _lost(self, error: UnavailableError) -> UnavailableError:
        """What is to be told: a far end that turns us away may do it by a reset; but the way itself may be broken."""
        return self._ended() if self._transport.alive and not self._speaker.opened else error

    def _ended(self) -> UnavailableError:
        how = "announced the session's end" if self._speaker.ending else "closed the connection"
        if self._speaker.opened:
            return UnavailableError(self._words.far_end, f"it {how}; {self._left()}", "its own log tells why")
        cause = f"it {how} before it answered {self._words.opening}"
        return UnavailableError(self._words.far_end, cause, self._words.when_turned_away)
