"""A stream to a far end that acknowledges every message: an acknowledged message is proven.

Messages are sent ahead of their answers as far as the window allows, and answers are read while sending: otherwise both
sides could block for ever. Over SSH the local connect always succeeds, so only an answer proves that there is a far
end: the constructor waits for the answer to the opening. Messages unanswered when the session ends are sent again in
the next one; refused messages are treated as relay.delivery.sessions.refusals says.

A `speaker.Speaker` holds what differs between protocols: `relp_speaker`, `auditd_speaker`.

Ceilings: the speaker's window, and the messages refused since the last proof.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from typing_extensions import override

from relay.delivery.message_selection import MessageSelection
from relay.delivery.sessions.delivery_session import (
    NOTHING_PROVEN,
    DeliverySession,
    FaultSearch,
    MessageId,
    ProvenExtent,
    RefusedMessage,
)
from relay.delivery.sessions.far_end_errors import ClosedByFarEndError, NoAnswerError, StoppedByFarEndError
from relay.delivery.sessions.refusals import Refusals, SentMessage
from relay.delivery.sessions.session_steps import ReportStep, SessionStep, StepFinding, report_nothing
from relay.delivery.sessions.speaker import Acknowledgement, FarEndStop, Speaker
from relay.delivery.sessions.write_buffer import WriteBuffer
from relay.errors import RelayError, UnavailableError
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.system.crash_point import crash_point
from relay.transport import Transport

FAREWELL_SECONDS: Final = 1.0
"""How long to wait for the answer to a farewell; nothing depends on it."""
_READS: Final = 64
"""Of octets that are there already: 4 MiB, which all answers of a window fit into; a far end may send without end."""
_STOP_INTERVAL: Final = 0.25  # seconds between two looks at `stop`


class AcknowledgedStream(DeliverySession):
    """A session over a transport; owns and closes it. Setting `stop` ends the wait for the opening's answer."""

    proof = "acknowledged"
    search = FaultSearch.SINGLY
    refused: Sequence[RefusedMessage] = ()
    heard: float = 0.0

    def __init__(
        self,
        transport: Transport,
        stop: threading.Event,
        speaker: Speaker,
        *,
        selection: MessageSelection,
        report: ReportStep = report_nothing,
    ) -> None:
        self.refused = []
        self._transport = transport
        self._stop = stop
        self._speaker = speaker
        self._selection = selection
        self._report = report
        self._wording = speaker.wording
        self._timeouts = speaker.timeouts
        self._buffer = WriteBuffer(self._write)
        self._sent: deque[SentMessage] = deque()  # unanswered, oldest first
        self._position = 0  # of the message being sent, or the next one
        self._submitting: MessageId | None = None
        self._answers_void = False
        self._last_answer: Acknowledgement | None = None
        self._refusals = Refusals(self._wording.far_end, self._send_again, self._timeouts.pauses)
        self.heard = time.monotonic()
        self._open()

    def _open(self) -> None:
        self._pipe = self._transport.open()
        self._write(self._speaker.open())
        if not self._read_until(lambda: self._speaker.opened or self._stop.is_set(), self._timeouts.opening):
            cause = f"no answer to {self._wording.opening} within {self._timeouts.opening:g} s"
            raise NoAnswerError(self._wording.far_end, cause, self._wording.when_unanswered)

    @override
    def send(self, block: Block) -> None:
        run, committed = block.header.run, block.header.committed
        for kind, number, message in self._selection.messages(block):
            self._submitting = message_id = MessageId(run, kind, number)
            if self._speaker.exhausted and not self._sent:  # every message before this one is answered
                self.end()
                self._pipe.close()
                self._speaker = self._speaker.renewed()
                self._open()
            for part in self._speaker.parts(message_id, message, committed):
                self._submit(SentMessage(self._position, message_id, message, part))
            self._submitting = None
            self._position += 1
        self._report(SessionStep.MESSAGE, StepFinding(""))

    @override
    def prove(self, cursor: Cursor) -> Cursor:
        """Return once every message is accepted, or refused for good."""
        self._buffer.flush()
        crash_point("interval-sent")
        self._await_all_answers()
        self.refused = self._refusals.settle()
        crash_point("interval-proven")
        finding = StepFinding(f"answered {self._last_answer}")
        if self._last_answer is not None and self._last_answer.warns:
            found = f"has kept it and warns: {self._last_answer}"
            finding = StepFinding(found, "look at the log server's disk", warning=True)
        self._report(SessionStep.PROOF, finding)
        return cursor

    @override
    def proven_extent(self) -> ProvenExtent:
        """Every message before the first that is unanswered, or refused but not for good."""
        with contextlib.suppress(RelayError):  # what arrived before the loss
            self._read_all()
        if self._answers_void:
            return NOTHING_PROVEN
        unanswered = min((*self._sent, *self._refusals.open()), key=lambda sent: sent.position, default=None)
        up_to = unanswered.id if unanswered is not None else self._submitting
        return ProvenExtent(everything=up_to is None, up_to=up_to)

    @property
    @override
    def alive(self) -> bool:
        return self._transport.alive

    @property
    @override
    def owing(self) -> bool:
        return self._speaker.unanswered > 0

    @override
    def check(self) -> None:
        """Read while idle: the far end may announce its end, have gone, or be silent for too long."""
        if not self._transport.alive:
            raise UnavailableError(self._wording.far_end, "the connection is lost", "it is opened again")
        self._read_all()
        if self._speaker.ending:
            raise self._closed_error()
        silence = time.monotonic() - self._last_octets
        if self._speaker.unanswered and silence >= self._timeouts.answering:
            raise self._silence_error()
        if heartbeat := self._speaker.idle(silence):
            self.heard = time.monotonic()  # from now on an answer is due
            self._write(heartbeat)

    @override
    def end(self) -> None:
        if not self._speaker.unanswered and (farewell := self._speaker.close()):
            with contextlib.suppress(RelayError):  # a courtesy
                self._write(farewell)
                self._read_until(lambda: not self._speaker.unanswered, FAREWELL_SECONDS)

    @override
    def close(self) -> None:
        """Close the transport without a farewell, because another thread may be in the middle of a frame."""
        self._transport.close()

    # --- Sending, and reading while sending ---

    def _submit(self, sent: SentMessage) -> None:
        if not self._speaker.has_room(len(sent.part)):
            # Wait until one more fits and no longer: the kernel delays small answers to a silent sender (Nagle).
            self._buffer.flush()
            while not self._speaker.has_room(len(sent.part)):
                self._await_answer()
        if self._speaker.ending:  # it may still answer earlier messages, but accepts no further one
            raise self._closed_error()
        frame = self._speaker.send(sent.part)
        self._sent.append(sent)
        if self._buffer.append(frame):
            self._read_all()

    def _send_again(self, pause: float, refused: Sequence[SentMessage]) -> None:
        self._read_until(lambda: False, pause)
        for sent in refused:
            self._submit(sent)
        self._buffer.flush()
        self._await_all_answers()

    def _write(self, data: bytes) -> None:
        try:
            self._pipe.send(data)
        except UnavailableError as error:
            raise self._loss_error(error) from error
        self._last_octets = time.monotonic()

    def _await_all_answers(self) -> None:
        while self._speaker.unanswered:
            self._await_answer()

    def _await_answer(self) -> None:
        """Return once the oldest unanswered frame is answered, and everything that came with its answer is read."""
        before = self._speaker.unanswered
        if not self._read_until(lambda: self._speaker.unanswered < before, self._timeouts.answering):
            raise self._silence_error()

    def _read_until(self, done: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._read(min(left, _STOP_INTERVAL))
        return True

    def _read_all(self) -> None:
        for _ in range(_READS):
            if not self._read(0):
                return

    def _read(self, timeout: float) -> bool:
        """Read once, and whether anything came in time; raises when the session cannot go on."""
        try:
            data = self._pipe.receive(timeout)
        except UnavailableError as error:
            raise self._loss_error(error) from error
        if data is None:
            return False
        self._last_octets = self.heard = time.monotonic()
        for answer in self._speaker.receive(data):
            if isinstance(answer, FarEndStop):
                self._answers_void = self._answers_void or answer.voids_answers  # another stop may follow
                raise StoppedByFarEndError(self._wording.far_end, answer, self._unanswered())
            self._last_answer = answer
            self._refusals.note(self._sent.popleft(), answer)
        if self._speaker.error is not None:
            raise self._speaker.error
        if not data:
            raise self._closed_error()
        return True

    # --- Errors ---

    def _unanswered(self) -> str:
        return f"{len(self._sent)} {self._wording.messages} were unanswered"

    def _silence_error(self) -> NoAnswerError:
        waiting = f"{len(self._sent)} {self._wording.messages} wait for theirs"
        cause = f"no answer for {self._timeouts.answering:g} s; {waiting}"
        return NoAnswerError(self._wording.far_end, cause, self._wording.when_stuck)

    def _loss_error(self, error: UnavailableError) -> UnavailableError:
        """A far end may turn relay away by a reset, which looks like a broken connection; or the transport is lost."""
        return self._closed_error() if self._transport.alive and not self._speaker.opened else error

    def _closed_error(self) -> ClosedByFarEndError:
        how = "announced the session's end" if self._speaker.ending else "closed the connection"
        if self._speaker.opened:
            remedy = "its own log names the reason"
            return ClosedByFarEndError(self._wording.far_end, f"it {how}; {self._unanswered()}", remedy)
        cause = f"it {how} before it answered {self._wording.opening}"
        return ClosedByFarEndError(self._wording.far_end, cause, self._wording.when_turned_away)
