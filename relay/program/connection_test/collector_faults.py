"""The faults of a collector in the words of a connection test: the cause, and what to change.

A session's error names what a running relay lacks. A test's error also quotes the octets that the collector has sent:
they, or its silence, show a collector of the wrong kind.
"""

from typing import Final, NamedTuple

from relay.delivery.sessions.far_end_errors import EverythingRefusedError, NoAnswerError, StoppedByFarEndError
from relay.errors import ProtocolError, RelayError, TemporaryError
from relay.values.address import Address
from relay.values.text import quoted

_WAIT_LONGER: Final = "if it is only slow, wait longer: `relay test-connection --timeout 60`"
_WRONG_KIND: Final = "what listens there? correct the port, or `protocol`"
_SEE_ITS_LOG: Final = "its log names the reason"
_MESSAGE: Final = "the message"
_OPENINGS: Final = {"relp": "RELP's open", "auditd": "auditd's heartbeat"}
_WHEN_SILENT: Final = {
    "relp": "is it a RELP collector? one of syslog, or auditd, answers nothing to that: correct the port, or "
    "`protocol`",
    "auditd": "is it an auditd with tcp_listen_port? a syslog collector answers nothing to that: correct the port, or "
    "`protocol`",
}
"""The remedies when the opening is not answered."""
_WHEN_CLOSED: Final = {
    "relp": f"is it a RELP collector, and is relay let in? {_SEE_ITS_LOG}",
    "auditd": "is it an auditd, and is its tcp_max_per_addr above 1? through a tunnel all connections come from one "
    "address, also those of a running relay",
}
"""The remedies when the collector closes the connection in place of that answer."""


def _excerpt(received: bytes) -> str:
    """The first octets that a collector sent, quoted for a sentence."""
    return quoted(received.decode("ascii", "backslashreplace"))


class WrongKindError(ProtocolError):
    """The collector answers syslog, which no syslog collector does."""

    def __init__(self, collector: Address, received: bytes) -> None:
        cause = f"it sent {_excerpt(received)}, and a syslog collector sends nothing"
        super().__init__(f"collector {collector}", cause, _WRONG_KIND)


class CollectorFaults(NamedTuple):
    """The faults of a collector, when an error has ended the session with it."""

    collector: Address
    seconds: float
    """How long its answers were awaited."""
    sent: bool
    """Whether the test message was sent."""
    received: bytes
    """The first octets that it sent since octets were last sent to it."""

    def of_session(self, error: RelayError, protocol: str) -> ProtocolError:
        """The fault behind a session's error."""
        return self.of_drained(error) if protocol == "syslog" else self.of_acknowledged(error, protocol)

    def of_drained(self, error: RelayError) -> ProtocolError:
        """Of a stream that proves by draining, or not at all."""
        if not self.sent and self.received:
            return WrongKindError(self.collector, self.received)
        if not self.sent:
            remedy = f"does it limit who may connect, or how many? is it a syslog collector? {_SEE_ITS_LOG}"
            return self._fault("it closes the connection at once", remedy)
        if isinstance(error, TemporaryError):
            return self._fault(
                f"it did not close within {self.seconds:g} s of relay's end of file, so nothing can be proven",
                "use a collector that closes then (rsyslog's imtcp, or relay's own receiver), or RELP; " + _WAIT_LONGER,
            )
        cause = f"it was gone before the proof was complete ({error.cause})"
        return self._fault(cause, f"is it still running? {_SEE_ITS_LOG}")

    def of_acknowledged(self, error: RelayError, protocol: str) -> ProtocolError:
        """Of a stream whose messages are acknowledged, by RELP or the auditd protocol."""
        question = _MESSAGE if self.sent else _OPENINGS[protocol]
        quote = f"it sent {_excerpt(self.received)}" if self.received else ""
        remedy = _SEE_ITS_LOG
        match error:
            case StoppedByFarEndError(stop=stop):
                cause = f"it answers {question} with {stop.name}: {stop.cause}"
                remedy = "start it again" if stop.name == "ENDING" else stop.remedy
            case EverythingRefusedError(answer=answer) if protocol == "relp":
                cause = f"it refuses the message: {answer}"
            case EverythingRefusedError(answer=answer):
                cause = f"it answers {question} with {answer}: it refuses it"
            case NoAnswerError():
                cause = f"no answer to {question} within {self.seconds:g} s{quote and f', but {quote}'}"
                stuck = f"is it stuck, or is its disk full? {_SEE_ITS_LOG}; {_WAIT_LONGER}"
                remedy = stuck if self.sent else _WHEN_SILENT[protocol]
            case ProtocolError():
                cause = f"{question} is not answered as it should be: {error.cause}{quote and f'; {quote}'}"
                remedy = f"{_WRONG_KIND}; {_SEE_ITS_LOG}"
            case _:
                cause = f"it closed the connection before it answered {question}{quote and f', and {quote}'}"
                remedy = remedy if self.sent else _WHEN_CLOSED[protocol]
        return self._fault(cause, remedy)

    def _fault(self, cause: str, remedy: str) -> ProtocolError:
        return ProtocolError(f"collector {self.collector}", cause, remedy)
