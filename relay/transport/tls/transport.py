"""TLS on the pipes of another transport, as syslog has it on port 6514 (RFC 5425): a relay.transport.Transport.

Nothing is sent before the server's certificate is verified (relay.transport.tls.client says how). What opening a pipe
raises besides what the inner transport does: PermissionRefusedError when we do not trust the server or it does not
trust us, ProtocolError when it speaks no TLS, none that we speak, or ends within HANDSHAKE seconds.

TLS tells a stream that was ended from one that was cut off: a half-close is a close_notify, and RFC 5425 section 4.4
has a collector answer it with its own and then close; the inner pipe stays open for that. A collector that is killed
cannot. So a pipe is drained when that answer has come and the inner pipe has ended as well: an end that was no answer,
sent before the collector had everything, is told by that one (`relay.transport.tcp`). The bare end of file, by which
TCP has to do, is taken only from a collector that has never answered since relay began (rsyslog's, by GnuTLS), which a
stream without a message finds out once a transport; whoever can cut connections off can then have relay believe it.

With TLS 1.3 a server refuses a client's certificate after the client's handshake is done: a pipe is half-closed no
sooner than SETTLING seconds after that, or twice the time that it took, at most _LONGEST_SETTLING seconds, so that the
refusal has come first.

A pipe is used by one thread, as every pipe is; `close` alone comes from others, and is the inner pipe's.
"""

import contextlib
import datetime as dt
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from cryptography import x509

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
from relay.transport.tls.context import is_cut_off
from relay.transport.tls.faults import VerifyResult, alert, distrust, refusal, words

HANDSHAKE: Final = 15.0
LOOKING: Final = 10.0
"""How long a collector may take to end a stream without a message, in seconds."""
CLOSING: Final = 1.0
"""After how many seconds a collector that has answered is told that the connection may end, if it has not ended it."""
_LONGEST_SETTLING: Final = 2.0  # seconds; no way to a server and back takes longer
_GLANCE: Final = 0.5  # seconds between two looks at whether the handshake is to be given up


class TlsPeer:
    """A collector, as it has shown itself since relay began; outlives the transports to it."""

    def __init__(self, what: str, tell: Callable[[str], None] = lambda _: None) -> None:
        self.what = what
        """As errors name it."""
        self.tell = tell
        """Called once with a sentence, when it is found never to answer."""
        self.answers: bool | None = None
        """Whether it answers a close_notify; what it has done once it is held to."""

    def __repr__(self) -> str:
        return f"<TlsPeer {self.what}>"


class NegotiatedTls(NamedTuple):
    """What a handshake agreed on, for people."""

    version: str
    cipher: str
    certificate: x509.Certificate
    """The server's."""


class TlsTransport:
    """A way to one collector by TLS on another's pipes; owns and closes that one."""

    def __init__(
        self, inner: Transport, client: TlsClient, peer: TlsPeer, stop: threading.Event, patience: float = HANDSHAKE
    ) -> None:
        self._inner = inner
        self._client = client
        self._peer = peer
        self._stop = stop
        self._patience = patience
        self._tried = False  # whether it answers

    def __repr__(self) -> str:
        return f"<TlsTransport to {self._peer.what} on {self._inner!r}>"

    @property
    def alive(self) -> bool:
        """Whether a pipe may still be opened."""
        return self._inner.alive

    def open(self) -> "TlsPipe":
        """A new stream to the verified collector."""
        return self.wrap(self._inner.open())

    def wrap(self, inner: Pipe) -> "TlsPipe":
        """The same on a pipe that was opened for it, and that is closed when it cannot be."""
        try:
            pipe = TlsPipe(inner, self, self._client, self._peer)
            pipe.shake_hands(self._patience, self._stop)
        except BaseException:
            inner.close()
            raise
        return pipe

    def close(self) -> None:
        """End every pipe at once; never raises."""
        self._inner.close()

    def answers(self) -> bool:
        """Whether the collector answers a close_notify; unless it has, a stream without a message shows it."""
        if not (self._peer.answers or self._tried):
            answered = self._answers_an_empty_stream()
            self._tried = True
            if self._peer.answers is None and not answered:
                self._peer.answers = False
                self._peer.tell(
                    f"{self._peer.what} never answers TLS's close_notify: its end of file proves, as by TCP"
                )
        return bool(self._peer.answers)

    def _answers_an_empty_stream(self) -> bool:
        empty = self.open()
        try:
            empty.half_close()
            drain(empty, LOOKING, f"an empty stream to {self._peer.what}")
        finally:
            empty.close()
        return empty.answered


class TlsPipe:
    """One stream; a relay.transport.Pipe."""

    def __init__(self, inner: Pipe, transport: TlsTransport, client: TlsClient, peer: TlsPeer) -> None:
        self._inner = inner
        self._transport = transport
        self._client = client
        self._peer = peer
        self._what = peer.what
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        name = client.server_name
        self._tls = client.context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._unread = bytearray()
        self.answered = False
        """Whether the collector has sent its close_notify."""
        self._cut_off = False  # it has ended without
        self._fault: RelayError | None = None
        self._half_closed = False
        self._settled = 0.0  # by the monotonic clock

    def __repr__(self) -> str:
        return f"<TlsPipe to {self._what} on {self._inner!r}>"

    @property
    def local(self) -> bool:
        """Whether the other end is on this machine."""
        return self._inner.local

    @property
    def session(self) -> NegotiatedTls:
        """What the handshake agreed on."""
        cipher = self._tls.cipher()
        return NegotiatedTls(self._tls.version() or "", cipher[0] if cipher else "", self._certificate())

    @property
    def ended(self) -> bool:
        """Whether the collector has ended its half, or the pipe is dead."""
        if len(self._unread) < LARGEST_READ and not self._over:
            try:
                self._take(0)
            except RelayError:
                return True
        return self._over or self._inner.ended

    def send(self, data: bytes) -> None:
        """Send everything; see relay.transport.Pipe."""
        if self._half_closed:
            raise InternalError("pipe", "nothing can be sent after the half-close")
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._tls.write(rest) :]
            except ssl.SSLError as error:
                raise self._fault or self._broken(error) from error
        try:
            self._flush()
        except UnavailableError:
            self._listen()  # it may have said why
            raise

    def receive(self, timeout: float) -> bytes | None:
        """What the collector says; see relay.transport.Pipe."""
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

    def half_close(self) -> None:
        """Say that no more comes; see relay.transport.Pipe."""
        self.settle()
        self._half_closed = True
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:  # the answer is to come
            pass
        except ssl.SSLError as error:
            raise self._broken(error) from error
        self._flush()

    def settle(self) -> None:
        """Wait until a server that does not let us in would have said so; raise what it has said, or that it ended."""
        while not self.ended and (left := self._settled - time.monotonic()) > 0 and len(self._unread) < LARGEST_READ:
            with contextlib.suppress(UnavailableError):  # as `ended` tells
                self._take(left)
        if self.ended:
            self._listen()
            remedy = "does it want another certificate of relay's, or one at all? its log tells why"
            raise UnavailableError(self._what, "it ended the connection before relay did", remedy)

    def drained(self, timeout: float) -> None:
        """Return once the collector has answered our close_notify; see relay.transport.Pipe and above."""
        if not self._half_closed:
            raise InternalError("pipe", "only a half-closed stream can be drained")
        deadline = time.monotonic() + timeout
        drain(self, timeout, f"proof from {self._what}")
        if self.answered:
            self._see_it_end(deadline)
        elif self._transport.answers():
            cause = "it ended the connection without TLS's close_notify, which it sends otherwise: it has died"
            remedy = "if it has got another TLS library since, restart relay"
            raise UnavailableError(self._what, cause, remedy)

    def _see_it_end(self, deadline: float) -> None:
        """Wait for the end of the inner pipe, which tells whether what was sent has arrived."""
        with contextlib.suppress(StillOpenError):
            drain(self._inner, min(CLOSING, max(0.0, deadline - time.monotonic())), self._what)
            return
        self._inner.half_close()
        drain(self._inner, max(0.0, deadline - time.monotonic()), f"the end of the connection to {self._what}")

    def close(self) -> None:
        """Give the stream up; never raises."""
        self._inner.close()

    # --- The handshake ---

    def shake_hands(self, patience: float, stop: threading.Event) -> None:
        """Agree on keys and verify the server; called once, before anything else."""
        begun = time.monotonic()
        while not self._is_agreed():
            left = begun + patience - time.monotonic()
            if left <= 0:
                cause = f"no answer to the TLS handshake within {patience:g} s"
                raise ProtocolError(self._what, cause, 'does it speak TLS? if not, `transport = "tcp"`')
            if stop.is_set():
                raise TemporaryError(self._what, "stopped during the TLS handshake")
            self._hear(min(left, _GLANCE))
        self._verify_fingerprint()
        self._read()  # what came with the handshake's end
        agreed = time.monotonic()
        self._settled = agreed + min(max(SETTLING, 2 * (agreed - begun)), _LONGEST_SETTLING)

    def _is_agreed(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLCertVerificationError as error:
            raise self._distrusted(error) from error
        except ssl.SSLError as error:
            raise self._disagreed(error) from error
        finally:
            # An alert of ours, too. Where nothing can be sent any more, what was received last tells why.
            with contextlib.suppress(UnavailableError):
                self._flush()
        return True

    def _hear(self, timeout: float) -> None:
        data = self._inner.receive(timeout)
        if data == b"":
            raise self._left()
        self._incoming.write(data or b"")

    def _left(self) -> ProtocolError:
        cause = "it ended the TLS handshake"
        return ProtocolError(self._what, cause, "does it speak TLS, and does it let relay in? its log tells why")

    def _distrusted(self, error: ssl.SSLCertVerificationError) -> PermissionRefusedError:
        client = self._client
        verdict = VerifyResult(
            code=error.verify_code,
            words=error.verify_message,
            chain=_sent_chain(self._tls),
            now=dt.datetime.now(dt.UTC),
            whose="its",
            purpose="serverAuth",
            name=client.server_name,
            trusts=client.trusts,
        )
        return PermissionRefusedError(self._what, *distrust(verdict))

    def _disagreed(self, error: ssl.SSLError) -> RelayError:
        if alert(error.reason):
            return self._broken(error)
        if not error.reason:  # a close_notify, or an alert that OpenSSL has no name for
            return self._left()
        cause = f"what it answers is no TLS that relay speaks ({words(error.reason)})"
        return ProtocolError(self._what, cause, 'does it speak TLS 1.2 or 1.3? if none at all, `transport = "tcp"`')

    def _verify_fingerprint(self) -> None:
        pinned = self._client.fingerprint
        shown = fingerprint(self._tls.getpeercert(binary_form=True) or b"")
        if pinned and pinned != shown:
            cause = f"its certificate has the fingerprint {shown}, and {pinned} is configured"
            raise PermissionRefusedError(self._what, cause, "ask whoever runs it which is right, and set `fingerprint`")

    def _certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self._tls.getpeercert(binary_form=True) or b"")

    # --- Octets ---

    @property
    def _over(self) -> bool:
        return self.answered or self._cut_off or self._fault is not None

    def _take(self, timeout: float) -> bool:
        """Take in what comes within the time; whether anything did."""
        data = self._inner.receive(timeout)
        if data is None:
            return False
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        self._read()
        return True

    def _read(self) -> None:
        try:
            while data := self._tls.read(LARGEST_READ):
                self._unread += data
            self._note_answer()
        except ssl.SSLWantReadError:
            self._flush()  # the answer to a change of keys
        except ssl.SSLZeroReturnError:
            self._note_answer()
        except ssl.SSLError as error:
            if is_cut_off(error):
                self._cut_off = True
            else:
                self._fault = self._broken(error)

    def _note_answer(self) -> None:
        self.answered = self._peer.answers = True

    def _listen(self) -> None:
        """Raise what the collector has said about why it ends the stream, if it has said anything."""
        with contextlib.suppress(UnavailableError):
            while not self._over and self._take(0):
                pass
        if self._fault is not None:
            raise self._fault

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._inner.send(data)

    def _broken(self, error: ssl.SSLError) -> RelayError:
        name = alert(error.reason)
        if fault := refusal(name, self._client.own, "it", "clientAuth"):
            return PermissionRefusedError(self._what, *fault)
        if name:
            wanted = "" if self._client.own else "; does it require a client certificate? `certificate` names none"
            cause = f"it ended TLS with the alert: {words(name)}"
            return ProtocolError(self._what, cause, f"its log names the reason{wanted}")
        return ProtocolError(self._what, f"TLS failed: {words(error.reason)}", "is something between that changes it?")


def _sent_chain(tls: ssl.SSLObject) -> list[x509.Certificate]:
    """What the peer has sent, its own certificate first, also when it is not trusted; empty where that is unknown."""
    # Public since Python 3.13; before that it is there under this name.
    get = getattr(tls, "get_unverified_chain", None) or getattr(
        getattr(tls, "_sslobj", None), "get_unverified_chain", None
    )
    found = []
    for each in (get() if get is not None else None) or ():
        try:
            in_der = isinstance(each, bytes)
            found.append(
                x509.load_der_x509_certificate(each)
                if in_der
                else x509.load_pem_x509_certificate(each.public_bytes().encode("ascii"))
            )
        except ValueError:  # what OpenSSL reads and `cryptography` does not
            return found
    return found
