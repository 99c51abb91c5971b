"""A test message by syslog, which nobody answers.

- A stream is drained, as `relay run` proves it: relay.delivery.sessions.drained_stream.
- Whoever says something on it is no syslog collector. auditd cannot be told from one: it drops what it does not know,
  and closes as it should; its usual port is a warning.
- On a stream straight to this machine no proof can be had: a forwarder there may take what it cannot deliver.
- Nor by datagrams (RFC 5426). That one was refused may be told at once, or never.
"""

from typing import Final

from relay.delivery.message_selection import NOTHING
from relay.delivery.sessions.drained_stream import DrainedStream, DrainTimeouts
from relay.delivery.sessions.syslog_encoder import SyslogEncoder
from relay.errors import ProtocolError, TemporaryError, UnavailableError
from relay.program.connection_test.exchange import EXCERPT, CollectorConnection, Proven
from relay.program.connection_test.message import framed
from relay.program.connection_test.report import StepFinding
from relay.transport.udp import UdpTransport
from relay.values.settings import RemoteLoggingServer
from relay.values.text import decoded, quoted

WATCHED_SECONDS: Final = 0.1
"""How long a collector is watched after the message: one that closes unasked, however late, is to be found out."""
REFUSED_SECONDS: Final = 0.5
"""How long the word that a datagram was refused is awaited."""
DRAINED: Final = "drained"
UNPROVEN: Final = "unproven"
_AUDITD_PORT: Final = 60
_PROVABLE: Final = '`protocol = "relp"` or a port-forwarding gives proof; without, the key `unproven` decides'


class SyslogStreamExchange:
    """A message on a stream; an Exchange."""

    def __init__(
        self, line: CollectorConnection, server: RemoteLoggingServer, message: bytes, watched: float | None = None
    ) -> None:
        """`watched`: seconds, in place of WATCHED_SECONDS."""
        self._watched = WATCHED_SECONDS if watched is None else watched
        self._line = line
        self._server = server
        self._message = message

    def send(self) -> StepFinding:
        """Send it, and watch for a while what the collector does: nothing is what it should do."""
        closed: UnavailableError | None = None
        said = bytearray()
        try:
            self._line.pipe.send(framed(self._message, self._server))
            self._watch(said)
        except UnavailableError as error:
            closed = error
        if said:
            raise self._speaks(bytes(said)) from closed
        if closed is not None:
            remedy = "does it limit who may connect, or how many? is it a syslog collector? its log tells why"
            raise self._line.loss(closed, "it closes the connection at once", remedy) from closed
        found = f"{len(self._message)} octets, syslog, {self._server.framing}"
        if self._line.collector.port == _AUDITD_PORT:
            found = f"{found}; but {_AUDITD_PORT} is auditd's port, and auditd drops syslog without a word"
            return StepFinding(found, 'if it is auditd: `protocol = "auditd"`', warning=True)
        return StepFinding(found)

    def _watch(self, said: bytearray) -> None:
        """Return once it was quiet for a while, or has said more than one wants to know."""
        while len(said) < EXCERPT:
            data = self._line.pipe.receive(self._watched)
            if data is None:
                return
            if not data:
                raise UnavailableError(str(self._line.collector), "it closed the connection")
            said += data

    def _speaks(self, said: bytes) -> ProtocolError:
        cause = f"it says {quoted(decoded(said))}, and a syslog collector says nothing"
        return self._line.fault(cause, "what listens there? mend the port, or `protocol`")

    def prove(self) -> Proven:
        """Drain the stream, where that is a proof."""
        line = self._line
        if line.pipe.local:
            return _unproven("it is on this machine, and may be a forwarder that takes what it cannot deliver")
        try:
            self._drain()
        except TemporaryError as error:
            raise self._never_closes() from error
        except UnavailableError as error:
            cause = f"it was gone before the proof was whole ({error.cause})"
            raise line.loss(error, cause, "does it run still? its log tells why") from error
        return Proven(DRAINED, StepFinding(f"{DRAINED}: {line.collector} has read to the end, and answers again"))

    def _drain(self) -> None:
        """Have a session of `relay run` prove what was sent on its stream."""
        nothing_more = SyslogEncoder(NOTHING, max_size=self._server.max_message_size)
        patience = DrainTimeouts(drain=self._line.patience, empty=0)
        session = DrainedStream(self._line.transport, self._line.pipe, nothing_more, patience=patience)
        session.prove_now()
        session.close_stream()

    def _never_closes(self) -> ProtocolError:
        return self._line.fault(
            f"it did not close within {self._line.patience:g} s of relay's end of file, so nothing can be proven",
            "use a collector that closes then (rsyslog's imtcp, or relay's own receiver), or RELP; if it is only slow, "
            "wait longer: `relay test-connection --timeout 60`",
        )


class DatagramExchange:
    """A message as one datagram; an Exchange."""

    def __init__(self, way: UdpTransport, message: bytes) -> None:
        self._way = way
        self._message = message

    def send(self) -> StepFinding:
        """Send it; UnavailableError when word comes that it was refused."""
        self._way.send(self._message)
        self._way.check(REFUSED_SECONDS)
        return StepFinding(f"{len(self._message)} octets, syslog, one datagram to {self._way.address}")

    def prove(self) -> Proven:
        """Say that there is no proof."""
        return _unproven("udp has no acknowledgement")


def _unproven(cause: str) -> Proven:
    return Proven(UNPROVEN, StepFinding(f"no proof can be had: {cause}", _PROVABLE, warning=True))
