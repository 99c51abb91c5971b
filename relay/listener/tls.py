"""A listener for TLS (RFC 5425): senders' TCP connections, encrypted, and verified if `ca` is configured.

The promise of `relay.listener.stream` holds. The peer's half-close is its close_notify, and only a clean close answers
it. A connection that ends without a close_notify is lost, because a cut cannot be distinguished from an end.

The handshake is part of the first read and limited in time. A failed handshake is a ProtocolError with its cause. With
`ca` only senders whose certificate leads to one of its authorities are accepted.

Changed files are read again for later connections, so a renewal needs no restart. A fault in them is logged once, and
the certificate that was read before stays in use. Until one could be read, the listener ends each connection at once;
nothing else stops.
"""

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import Callable
from typing import Final

from cryptography import x509
from typing_extensions import override

from relay.errors import ProtocolError, RelayError, UnavailableError
from relay.listener.admission.admission import Admission, AdmittedConnection
from relay.listener.listening_socket import binding
from relay.listener.reception.listener_counters import ListenerCounters
from relay.listener.reception.stream_errors import SlowHandshakeError
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.stream import ByteStream
from relay.listener.tcp import StreamListener
from relay.syslog.other_protocol import NO_TLS, OtherProtocolError, is_tls
from relay.transport.from_files import FromFiles
from relay.transport.tls.certificate import fingerprint, identify, trust
from relay.transport.tls.engine import TlsEngine, TlsState, tls_context
from relay.transport.tls.faults import TlsFault, VerifyResult, alert, certificate_names, distrust, in_words, refusal
from relay.values.address import Address
from relay.values.configuration.receiver_settings import ReceiverTls
from relay.values.configuration.setting_rules import is_pem
from relay.values.event import Submit

HANDSHAKE_TIMEOUT: Final = 15.0  # seconds
_LONGEST_NAME: Final = 255
_MOST_NAMES: Final = 16
_LARGEST_READ: Final = 1 << 18
"""Octets after which `read` returns; one record may come on top."""


def server_context(settings: ReceiverTls) -> ssl.SSLContext:
    """A context from the files that the settings name; errors are those of `relay.transport.tls.certificate`."""
    context = tls_context(ssl.PROTOCOL_TLS_SERVER)
    identify(context, settings.certificate, settings.private_key or settings.certificate)
    if settings.ca:
        trust(context, settings.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class ServerIdentity:
    """The context for the next connection, from the files as they are now. For any thread."""

    def __init__(self, settings: ReceiverTls) -> None:
        self._context = self._read(settings)
        self._context.refresh()

    @staticmethod
    def _read(settings: ReceiverTls) -> FromFiles[ssl.SSLContext]:
        named = (settings.certificate, settings.private_key, settings.ca)
        files = tuple(each for each in named if each and not is_pem(each))
        return FromFiles("the receiver's certificate", files, lambda: server_context(settings))

    def exchange(self, settings: ReceiverTls) -> None:
        """Use these settings for later connections; a RelayError leaves the former ones in use."""
        new = self._read(settings)
        if (error := new.refresh()) is not None:
            raise error
        self._context = new

    def refresh(self) -> RelayError | None:
        """Read the files if they have changed; the error, if they cannot be used as they are now."""
        return self._context.refresh()

    def context(self) -> ssl.SSLContext | None:
        """The context of the latest usable files; None if there never were any."""
        self._context.refresh()
        return self._context.value


class TlsListener(StreamListener):
    """Listens for TLS on every address of a host; `handshake_timeout` is in seconds."""

    authenticates = True

    def __init__(  # noqa: PLR0913  as for its base
        self,
        address: Address,
        identity: ServerIdentity,
        submit: Submit,
        counters: ListenerCounters | None = None,
        terms: StreamTerms | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        *,
        admission: Admission | None = None,
    ) -> None:
        name, bind = f"tls://{address}", binding(address)
        super().__init__(name, bind, submit, counters=counters, terms=terms, admission=admission)
        self._identity = identity
        self._handshake_timeout = handshake_timeout

    @override
    def _stream(self, connection: ByteStream, admitted: AdmittedConnection) -> ByteStream | None:
        if (context := self._identity.context()) is None:
            return None

        def agreed(identity: str) -> None:
            admitted.authenticated(verified=bool(identity))

        return TlsStream(connection, context, self._handshake_timeout, agreed)


class TlsStream(ByteStream):
    """TLS on another stream, which it closes or aborts at its own end."""

    def __init__(
        self,
        inner: ByteStream,
        context: ssl.SSLContext,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        agreed: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`agreed` is called at the end of the handshake with the verified identity, or ""."""
        self._inner = inner
        self._engine = TlsEngine(context)
        self._handshake_timeout = handshake_timeout
        self._agreed = False
        self._when_agreed = agreed

    @property
    @override
    def peer(self) -> str:
        return self._inner.peer

    @property
    @override
    def address(self) -> str:
        return self._inner.address

    @property
    @override
    def half_closed(self) -> bool:
        return self._inner.half_closed

    @property
    @override
    def has_completed(self) -> bool:
        return self._inner.has_completed

    @override
    def completed(self) -> None:
        self._inner.completed()

    @override
    async def read(self) -> bytes:
        if not self._agreed:
            await self._shake_hands()
        plaintext = bytearray()
        while len(plaintext) < _LARGEST_READ:
            try:
                event = self._engine.read()
            except ssl.SSLError as error:
                raise await self._failed("TLS stream", error) from error
            if isinstance(event, bytes):
                plaintext += event
            elif plaintext or event is TlsState.CLOSED:
                break
            elif event is TlsState.CUT_OFF:
                raise UnavailableError("TLS stream", "the peer ended the connection without a close_notify")
            else:
                await self._flush()  # the answer to a change of keys
                self._engine.feed(await self._inner.read())
        return bytes(plaintext)

    @override
    async def write(self, data: bytes) -> None:
        try:
            self._engine.write(data)
        except ssl.SSLError as error:
            raise UnavailableError("TLS stream", "it has failed, so no answer can be written") from error
        await self._flush()

    @override
    async def close(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            self._engine.close()
        with contextlib.suppress(UnavailableError):  # the peer has closed already
            await self._flush()
        await self._inner.close()

    @override
    def abort(self) -> None:
        self._inner.abort()

    async def _shake_hands(self) -> None:
        begun = False
        try:
            async with asyncio.timeout(self._handshake_timeout):
                while not self._engine.handshake():
                    await self._flush()
                    if not (data := await self._inner.read()):
                        raise UnavailableError("TLS handshake", "the peer ended the connection")
                    if not begun and not is_tls(data):
                        raise OtherProtocolError(NO_TLS, data)
                    begun = True
                    self._engine.feed(data)
                await self._flush()
        except TimeoutError:
            cause = f"it was not completed within {self._handshake_timeout:g} s"
            raise SlowHandshakeError("TLS handshake", cause) from None
        except ssl.SSLError as error:
            raise await self._failed("TLS handshake", error) from error
        self._agreed = True
        self.identity = verified_identity(self._engine.peer_certificate)
        self._when_agreed(self.identity)

    async def _failed(self, what: str, error: ssl.SSLError) -> ProtocolError:
        """Send the alert that names the peer's fault, as far as it can be sent."""
        with contextlib.suppress(RelayError):
            await self._flush()
        return ProtocolError(what, *_fault(error))

    async def _flush(self) -> None:
        if data := self._engine.ciphertext():
            await self._inner.write(data)


def verified_identity(certificate: bytes) -> str:
    """The identity that a verified certificate (DER; b"" for none) proves, as `Provenance.identity` has it."""
    if not certificate:
        return ""
    try:
        named = certificate_names(x509.load_der_x509_certificate(certificate))
    except ValueError:  # OpenSSL reads it, `cryptography` does not
        named = []
    usable = [name for name in named if name.isprintable() and " " not in name and len(name) <= _LONGEST_NAME]
    return " ".join([fingerprint(certificate), *usable[:_MOST_NAMES]])


def _fault(error: ssl.SSLError) -> TlsFault:
    """Which side is at fault for a failure, and the remedy."""
    if isinstance(error, ssl.SSLCertVerificationError):
        # Python does not give a server the chain of a client that it refuses.
        now = dt.datetime.now(dt.UTC)
        return distrust(VerifyResult(error.verify_code, error.verify_message, (), now, "the sender's", "clientAuth"))
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        cause = "the sender has no certificate, but `ca` requires one"
        return TlsFault(cause, "give it a certificate that an authority in `ca` has signed")
    if fault := refusal(alert(error.reason), None, "the sender", "serverAuth"):
        remedy = "the sender must trust the signer of `certificate`, and use a name of this receiver that is in it"
        return fault._replace(remedy=remedy)
    return TlsFault(
        in_words(error.reason),
        "check that the sender uses TLS 1.2 or 1.3, and that no device in between changes the stream",
    )
