"""A test message in the protocols whose collectors answer it: RELP and auditd's.

- RELP: open must be answered before the message is sent, and the message by 200.
- auditd: a heartbeat must be answered before, and the message, as a TRUSTED_APP record (relay.events.audit.as_records),
  by ACK, or by a warning such as DISKLOW.

A collector of another kind answers nothing, or nonsense: the one is told after the line's patience, the other by what
it said.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from relay.errors import ProtocolError, UnavailableError
from relay.events.audit.as_records import NodeName, as_records
from relay.program.connection_test.exchange import EXCERPT, CollectorConnection, Proven
from relay.program.connection_test.report import StepFinding
from relay.syslog.auditd_remote import DISKERROR, DISKFULL, ENDING, AuditdClient, Reply
from relay.syslog.relp import RelpClient, RelpResponse
from relay.values.event import EventType
from relay.values.text import decoded, quoted

ACKNOWLEDGED: Final = "acknowledged"
CLOSING_SECONDS: Final = 1.0
"""How long the answer to RELP's close is awaited, which nothing hangs on."""

Given = TypeVar("Given")
Given_co = TypeVar("Given_co", covariant=True)


class _Question(NamedTuple):
    """What is to be answered, and what to do when it is not."""

    words: str
    when_silent: str
    when_closed: str


_OPEN: Final = _Question(
    "RELP's open",
    "is it a RELP collector? one of syslog, or auditd, answers nothing to that: mend the port, or `protocol`",
    "is it a RELP collector, and is relay let in? its log tells why",
)
_HEARTBEAT: Final = _Question(
    "auditd's heartbeat",
    "is it an auditd with tcp_listen_port? a syslog collector answers nothing to that: mend the port, or `protocol`",
    "is it an auditd, and is its tcp_max_per_addr above 1? through a tunnel all come from one address, a running "
    "relay too",
)
_MESSAGE: Final = _Question(
    "the message",
    "is it stuck, or is its disk full? its log tells why; if it is only slow, wait longer: "
    "`relay test-connection --timeout 60`",
    "its log tells why",
)
_WHEN_NONSENSE: Final = "what listens there? its log tells why; mend the port, or `protocol`"


class _Client(Protocol[Given_co]):
    """The pure side of a protocol: octets in, answers out."""

    @property
    def error(self) -> ProtocolError | None: ...

    @property
    def unanswered(self) -> int: ...

    def receive(self, data: bytes) -> Sequence[Given_co]: ...


class _Dialogue(Generic[Given]):
    """Questions on a line, one after the other."""

    def __init__(self, line: CollectorConnection, client: _Client[Given]) -> None:
        self._line = line
        self._client = client
        self._said = b""

    def ask(self, question: _Question, octets: bytes) -> None:
        """Send it; the answer is not awaited."""
        self._said = b""
        try:
            self._line.pipe.send(octets)
        except UnavailableError as error:
            raise self._closed(question, error) from error

    def answers(self, question: _Question, patience: float | None = None) -> Sequence[Given]:
        """What came when the first answer came; nothing where the client keeps it for itself."""
        deadline = time.monotonic() + (self._line.patience if patience is None else patience)
        while self._client.unanswered:
            if answers := self._hear(question, deadline - time.monotonic()):
                return answers
        return []

    def _hear(self, question: _Question, left: float) -> Sequence[Given]:
        try:
            data = self._line.pipe.receive(max(0.0, left))
        except UnavailableError as error:
            raise self._closed(question, error) from error
        if data is None:
            cause = f"no answer to {question.words} within {self._line.patience:g} s"
            raise self._line.fault(cause + self._so_far(", but "), question.when_silent)
        if not data:
            raise self._closed(question, UnavailableError(str(self._line.collector), "it closed the connection"))
        self._said = (self._said + data)[:EXCERPT]
        answers = self._client.receive(data)
        if self._client.error is not None:
            cause = f"{question.words} is not answered as it should be: {self._client.error.cause}"
            raise self._line.fault(cause + self._so_far("; "), _WHEN_NONSENSE)
        return answers

    def _closed(self, question: _Question, error: UnavailableError) -> ProtocolError:
        cause = f"it closed the connection before it answered {question.words}{self._so_far(', and ')}"
        return self._line.loss(error, cause, question.when_closed)

    def _so_far(self, joint: str) -> str:
        return f"{joint}it said {quoted(decoded(self._said))}" if self._said else ""


# --- RELP ---


class RelpExchange:
    """A message by RELP; an Exchange."""

    def __init__(self, line: CollectorConnection, message: bytes) -> None:
        self._line = line
        self._message = message
        self._client = RelpClient()
        self._dialogue: _Dialogue[RelpResponse] = _Dialogue(line, self._client)

    def send(self) -> StepFinding:
        """Open, and send it."""
        self._dialogue.ask(_OPEN, self._client.open())
        self._dialogue.answers(_OPEN)
        self._dialogue.ask(_MESSAGE, self._client.send(self._message))
        return StepFinding(f"{len(self._message)} octets, relp")

    def prove(self) -> Proven:
        """Wait for its answer."""
        (answer,) = self._dialogue.answers(_MESSAGE)
        if not answer.accepted:
            raise self._line.fault(f"it refuses the message: {answer}", "its log tells why")
        self._close()
        return Proven(ACKNOWLEDGED, StepFinding(f"{ACKNOWLEDGED}: {self._line.collector} answered {answer}"))

    def _close(self) -> None:
        """End the session as RELP has it: rsyslog logs an error otherwise. What is answered stays proven."""
        with contextlib.suppress(ProtocolError):
            self._dialogue.ask(_MESSAGE, self._client.close())
            self._dialogue.answers(_MESSAGE, CLOSING_SECONDS)


# --- auditd ---

_REFUSALS: Final = {
    DISKFULL: ("its disk is full", "make room on the log server"),
    DISKERROR: ("its disk fails", "look at the log server's disk"),
    ENDING: ("it is stopping", "start it again"),
}


class AuditdExchange:
    """A message by the auditd protocol; an Exchange. `now` in microseconds since the epoch."""

    def __init__(self, line: CollectorConnection, message: bytes, now: int, node_name: NodeName = "none") -> None:
        self._line = line
        self._record = as_records(EventType.RELAY, 0, message, now, node_name).records[0]
        self._client = AuditdClient()
        self._dialogue: _Dialogue[Reply] = _Dialogue(line, self._client)

    def send(self) -> StepFinding:
        """Send a heartbeat, and the record behind its answer."""
        self._dialogue.ask(_HEARTBEAT, self._client.heartbeat())
        self._answer(_HEARTBEAT)
        self._dialogue.ask(_MESSAGE, self._client.message(self._record))
        return StepFinding(f"{len(self._record)} octets, auditd")

    def prove(self) -> Proven:
        """Wait for its answer."""
        reply = self._answer(_MESSAGE)
        if reply.warning:
            found = f"{ACKNOWLEDGED}: {self._line.collector} has kept it and warns: {reply.name}"
            return Proven(ACKNOWLEDGED, StepFinding(found, "look at the log server's disk", warning=True))
        return Proven(ACKNOWLEDGED, StepFinding(f"{ACKNOWLEDGED}: {self._line.collector} answered {reply.name}"))

    def _answer(self, question: _Question) -> Reply:
        replies = self._dialogue.answers(question)
        for reply in replies:
            if reply.type == ENDING or reply.fatal:
                why, remedy = _REFUSALS.get(reply.type, ("it refuses it", "its log tells why"))
                raise self._line.fault(f"it answers {question.words} with {reply.name}: {why}", remedy)
        return replies[0]
