"""TLS on the pipes of another transport, as syslog uses it on port 6514 (RFC 5425): a relay.transport.Transport.

Nothing is sent before the server's certificate is verified (`relay.transport.tls.client` defines how). Opening a pipe
raises the inner transport's errors, PermissionRefusedError when one side does not trust the other, and ProtocolError
when the server speaks no supported TLS or does not complete the handshake in time.

TLS distinguishes an ended stream from one that was cut off. A half-close is a close_notify. By RFC 5425 section 4.4 the
collector answers it with its own and then closes; the inner pipe stays open for that. A killed collector cannot answer.
So a pipe is drained when that answer has come and the inner pipe has ended as well. A close_notify that the collector
sent before it had everything is not an answer; the inner pipe detects it (`relay.transport.tcp`).

Some collectors never answer (rsyslog with GnuTLS). For those the bare end of file is the proof, as with plain TCP, and
anybody who can cut connections can forge it. It is accepted only while the collector has not answered once since relay
started, and after a stream without a message has shown the same; that test runs once a transport.

With TLS 1.3 a server refuses a client's certificate after the client's handshake is complete. A half-close therefore
waits for SETTLING seconds after the handshake, or twice the handshake's duration, at most _LONGEST_SETTLING seconds.

One thread uses a pipe; only `close` may be called from others, and it closes the inner pipe.
"""

import contextlib
import datetime as dt
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from cryptography import x509
from typing_extensions import override

from relay.errors import (
    InternalError,
    PermissionRefusedError,
    ProtocolError,
    RelayError,
    TemporaryError,
    UnavailableError,
)
from relay.transport import LARGEST_READ, SETTLING, Pipe, StillOpenError, Transport, drain
from relay.transport.tls.certificate import fingerprint
from relay.transport.tls.client import TlsClient
from relay.transport.tls.engine import TlsEngine, TlsState
from relay.transport.tls.faults import VerifyResult, alert, distrust, in_words, refusal

# All in seconds.
HANDSHAKE_TIMEOUT: Final = 15.0
EMPTY_STREAM_TIMEOUT: Final = 10.0
"""How long a collector may take to end a stream without a message."""
CLOSE_GRACE: Final = 1.0
"""How long a collector that has answered may take to close, before relay closes its own half as well."""
_LONGEST_SETTLING: Final = 2.0  # no round trip to a server takes longer
_POLL_INTERVAL: Final = 0.5  # between two checks for a stop during the handshake


class TlsPeer:
    """What relay has learnt about a collector since it started; outlives the transports to it."""

    def __init__(self, what: str, report: Callable[[str], None] = lambda _: None) -> None:
        self.what = what
        """The collector's name in errors."""
        self.report = report
        """Called once with a sentence, when the collector turns out never to answer a close_notify."""
        self.answers: bool | None = None
        """Whether it answers a close_notify; None until that is known. True is final."""

    def __repr__(self) -> str:
        return f"<TlsPeer {self.what}>"


class NegotiatedTls(NamedTuple):
    """The result of a handshake, for people."""

    version: str
    cipher: str
    certificate: x509.Certificate  # the server's


class TlsTransport(Transport):
    """TLS to one collector on another transport's pipes; owns and closes that transport."""

    def __init__(
        self,
        inner: Transport,
        client: TlsClient,
        peer: TlsPeer,
        stop: threading.Event,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        settling: float = 0.0,
    ) -> None:
        self._inner = inner
        self._client = client
        self._peer = peer
        self._stop = stop
        self._handshake_timeout = handshake_timeout
        self.settling = settling
        """The least seconds after a handshake in which a collector may still reject relay's certificate."""
        self._tested = False  # whether the collector answers a close_notify

    def __repr__(self) -> str:
        return f"<TlsTransport to {self._peer.what} on {self._inner!r}>"

    @property
    @override
    def alive(self) -> bool:
        return self._inner.alive

    @override
    def open(self) -> "TlsPipe":
        return self.wrap(self._inner.open())

    def wrap(self, inner: Pipe) -> "TlsPipe":
        """Start TLS on a pipe that was opened for it; the pipe is closed when that fails."""
        try:
            pipe = TlsPipe(inner, self, self._client, self._peer)
            pipe.shake_hands(self._handshake_timeout, self._stop)
        except BaseException:
            inner.close()
            raise
        return pipe

    @override
    def close(self) -> None:
        self._inner.close()

    def answers(self) -> bool:
        """Whether the collector answers a close_notify; if it never has, test it with a stream without a message."""
        if self._peer.answers or self._tested:
            return bool(self._peer.answers)
        with contextlib.closing(self.open()) as empty:
            empty.half_close()
            drain(empty, EMPTY_STREAM_TIMEOUT, f"an empty stream to {self._peer.what}")
        self._tested = True
        if self._peer.answers is None and not empty.answered:
            self._peer.answers = False
            consequence = "so its end of file is the proof, as with plain TCP"
            self._peer.report(f"{self._peer.what} never answers TLS's close_notify, {consequence}")
        return bool(self._peer.answers)


class TlsPipe(Pipe):
    """One TLS stream on another pipe."""

    def __init__(self, inner: Pipe, transport: TlsTransport, client: TlsClient, peer: TlsPeer) -> None:
        self._inner = inner
        self._transport = transport
        self._client = client
        self._peer = peer
        self._what = peer.what
        self.local = inner.local
        self._engine = TlsEngine(client.context, client.server_name)
        self._unread = bytearray()
        self.answered = False
        """Whether the collector has sent its close_notify."""
        self._cut_off = False
        self._fault: RelayError | None = None
        self._half_closed = False
        self._settled = 0.0  # by the monotonic clock

    def __repr__(self) -> str:
        return f"<TlsPipe to {self._what} on {self._inner!r}>"

    @property
    def negotiated(self) -> NegotiatedTls:
        """What the handshake agreed on."""
        certificate = x509.load_der_x509_certificate(self._engine.peer_certificate)
        return NegotiatedTls(self._engine.version, self._engine.cipher, certificate)

    @property
    @override
    def ended(self) -> bool:
        if len(self._unread) < LARGEST_READ and not self._over:
            try:
                self._take(0)
            except RelayError:
                return True
        return self._over or self._inner.ended

    @override
    def send(self, data: bytes) -> None:
        if self._half_closed:
            raise InternalError("pipe", "nothing can be sent after the half-close")
        try:
            self._engine.write(data)
        except ssl.SSLError as error:
            raise self._fault or self._broken(error) from error
        try:
            self._flush()
        except UnavailableError:
            self._raise_fault()
            raise

    @override
    def receive(self, timeout: float) -> bytes | None:
        deadline = time.monotonic() + timeout
        left = timeout
        while not (self._unread or self._over):
            if left < 0 or not self._take(left):
                return None
            left = deadline - time.monotonic()
        if not self._unread and self._fault is not None:
            raise self._fault
        data = bytes(self._unread[:LARGEST_READ])
        del self._unread[:LARGEST_READ]
        return data

    @override
    def half_close(self) -> None:
        self.settle()
        self._half_closed = True
        try:
            self._engine.close()
        except ssl.SSLError as error:
            raise self._broken(error) from error
        self._flush()

    def settle(self) -> None:
        """Wait until a server that refuses relay would have done so; raise its refusal, or that it has ended."""
        while not self.ended and (left := self._settled - time.monotonic()) > 0 and len(self._unread) < LARGEST_READ:
            with contextlib.suppress(UnavailableError):  # `ended` detects it
                self._take(left)
        if self.ended:
            self._raise_fault()
            remedy = "its log names the reason: it may require a client certificate, or another one than relay's"
            raise UnavailableError(self._what, "it ended the connection before relay did", remedy)

    @override
    def drained(self, timeout: float) -> None:
        if not self._half_closed:
            raise InternalError("pipe", "only a half-closed stream can be drained")
        deadline = time.monotonic() + timeout
        drain(self, timeout, f"proof from {self._what}")
        if self.answered:
            # Only the inner pipe's end shows that the answer came after everything was received.
            try:
                drain(self._inner, min(CLOSE_GRACE, max(0.0, deadline - time.monotonic())), self._what)
            except StillOpenError:
                self._inner.half_close()
                left = max(0.0, deadline - time.monotonic())
                drain(self._inner, left, f"the end of the connection to {self._what}")
        elif self._transport.answers():
            cause = "it ended the connection without TLS's close_notify, which it normally sends: it probably died"
            remedy = "if its TLS library was replaced since relay started, restart relay"
            raise UnavailableError(self._what, cause, remedy)

    @override
    def close(self) -> None:
        self._inner.close()

    # --- The handshake ---

    def shake_hands(self, timeout: float, stop: threading.Event) -> None:
        """Agree on keys and verify the server; called once, before anything else."""
        begun = time.monotonic()
        while not self._advance_handshake():
            left = begun + timeout - time.monotonic()
            if left <= 0:
                cause = f"no answer to the TLS handshake within {timeout:g} s"
                raise ProtocolError(self._what, cause, 'if it does not use TLS, set `transport = "tcp"`')
            if stop.is_set():
                raise TemporaryError(self._what, "stopped during the TLS handshake")
            data = self._inner.receive(min(left, _POLL_INTERVAL))
            if data == b"":
                raise self._handshake_ended()
            if data:
                self._engine.feed(data)
        pinned, shown = self._client.fingerprint, fingerprint(self._engine.peer_certificate)
        if pinned and pinned != shown:
            cause = f"its certificate has the fingerprint {shown}, but {pinned} is configured"
            remedy = "ask its administrator which is right, and set `fingerprint`"
            raise PermissionRefusedError(self._what, cause, remedy)
        self._read()  # what came with the end of the handshake
        agreed = time.monotonic()
        settling = min(max(SETTLING, 2 * (agreed - begun)), _LONGEST_SETTLING)
        self._settled = agreed + max(settling, self._transport.settling)

    def _advance_handshake(self) -> bool:
        """Whether the handshake is complete; its failures become errors for people."""
        try:
            return self._engine.handshake()
        except ssl.SSLCertVerificationError as error:
            result = VerifyResult(
                code=error.verify_code,
                message=error.verify_message,
                chain=self._engine.peer_chain(),
                now=dt.datetime.now(dt.UTC),
                whose="its",
                purpose="serverAuth",
                name=self._client.server_name,
                trusts=self._client.trusts,
            )
            raise PermissionRefusedError(self._what, *distrust(result)) from error
        except ssl.SSLError as error:
            if alert(error.reason):
                raise self._broken(error) from error
            if not error.reason:  # a close_notify, or an alert without a name in OpenSSL
                raise self._handshake_ended() from error
            cause = f"its answer is not TLS 1.2 or 1.3 ({in_words(error.reason)})"
            raise ProtocolError(self._what, cause, 'if it does not use TLS, set `transport = "tcp"`') from error
        finally:
            # Also relay's own alert. If it cannot be sent any more, what was received last explains why.
            with contextlib.suppress(UnavailableError):
                self._flush()

    def _handshake_ended(self) -> ProtocolError:
        remedy = "its log names the reason; it may not use TLS, or not accept connections from this machine"
        return ProtocolError(self._what, "it ended the TLS handshake", remedy)

    # --- Octets ---

    @property
    def _over(self) -> bool:
        return self.answered or self._cut_off or self._fault is not None

    def _take(self, timeout: float) -> bool:
        """Read what arrives in time; whether anything did, the end included."""
        data = self._inner.receive(timeout)
        if data is None:
            return False
        self._engine.feed(data)
        self._read()
        return True

    def _read(self) -> None:
        try:
            while isinstance(event := self._engine.read(), bytes):
                self._unread += event
        except ssl.SSLError as error:
            self._fault = self._broken(error)
            return
        match event:
            case TlsState.CLOSED:
                self.answered = self._peer.answers = True
            case TlsState.CUT_OFF:
                self._cut_off = True
            case TlsState.NEED_DATA:
                self._flush()  # the answer to a change of keys

    def _raise_fault(self) -> None:
        """Read what the collector has sent about why it ends the stream, and raise that."""
        with contextlib.suppress(UnavailableError):
            while not self._over and self._take(0):
                pass
        if self._fault is not None:
            raise self._fault

    def _flush(self) -> None:
        if data := self._engine.ciphertext():
            self._inner.send(data)

    def _broken(self, error: ssl.SSLError) -> RelayError:
        name = alert(error.reason)
        if fault := refusal(name, self._client.own, "it", "clientAuth"):
            return PermissionRefusedError(self._what, *fault)
        if name:
            remedy = "its log names the reason"
            if self._client.own is None:
                remedy += "; if it requires a client certificate, set `certificate` and `private-key`"
            return ProtocolError(self._what, f"it ended TLS with the alert: {in_words(name)}", remedy)
        remedy = "check that no device on the network path changes the stream"
        return ProtocolError(self._what, f"TLS failed: {in_words(error.reason)}", remedy)
