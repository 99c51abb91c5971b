"""A listener for TLS (RFC 5425): a sender's TCP connection as one that is encrypted, and verified where that is asked.

The promise of stream.py holds: the peer's half-close is its close_notify, and only a clean close answers it with ours.
A connection that ends without one is lost, whatever came before: nobody can tell a cut from an end.

The handshake is the first read's, and takes HANDSHAKE seconds at most; what is wrong with it is a ProtocolError that
says so. With `ca` only such senders are let in as have a certificate that leads to it.

Files that change are read anew for the connections after that, so that a renewal needs no restart. What is wrong with
them is logged once, and those that were read before go on to serve. While none could be read yet, the listener ends
each connection at once, and nothing else stops.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import ssl
from typing import Final

from relay.errors import ProtocolError, RelayError, UnavailableError
from relay.listener.stream import ByteStream, ListenerCounters, StreamTerms
from relay.listener.tcp import TcpListener
from relay.transport.from_files import FromFiles
from relay.transport.tls.certificate import identify, trust
from relay.transport.tls.context import is_cut_off, tls_context
from relay.transport.tls.faults import TlsFault, VerifyResult, alert, distrust, refusal, words
from relay.values.event import Submit
from relay.values.quantity import Address
from relay.values.setting_values import is_pem
from relay.values.settings import ReceiverTls

HANDSHAKE: Final = 15.0
_READ: Final = 1 << 18  # octets given at once, at most
_RECORD: Final = 1 << 14  # of one TLS record, RFC 8446 section 5.1

_log = logging.getLogger(__name__)


def server_context(settings: ReceiverTls) -> ssl.SSLContext:
    """Read the files that the settings name; errors are those of `certificate`."""
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
        self._context.look()

    @staticmethod
    def _read(settings: ReceiverTls) -> FromFiles[ssl.SSLContext]:
        named = (settings.certificate, settings.private_key, settings.ca)
        files = tuple(each for each in named if each and not is_pem(each))
        return FromFiles("the receiver's certificate", files, lambda: server_context(settings))

    def exchange(self, settings: ReceiverTls) -> None:
        """Serve the connections that begin from now on with these settings; RelayError when that cannot be."""
        new = self._read(settings)
        if (error := new.look()) is not None:
            raise error
        self._context = new

    def look(self) -> RelayError | None:
        """Read the files if they have changed; why they cannot be used as they are now."""
        return self._context.look()

    def context(self) -> ssl.SSLContext | None:
        """As the files are now, or as they last were when they could be used; None when they never could."""
        self._context.look()
        return self._context.value


class TlsListener(TcpListener):
    """What listens for TLS."""

    def __init__(
        self,
        address: Address,
        identity: ServerIdentity,
        submit: Submit,
        counters: ListenerCounters | None = None,
        terms: StreamTerms | None = None,
    ) -> None:
        super().__init__(address.host, address.port, submit, counters=counters, terms=terms)
        self._identity = identity

    def _stream(self, connection: ByteStream) -> ByteStream | None:
        context = self._identity.context()
        return None if context is None else TlsStream(connection, context)


class TlsStream:
    """A ByteStream (see `stream.ByteStream`) on another one; it aborts and closes that one."""

    def __init__(self, inner: ByteStream, context: ssl.SSLContext) -> None:
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._agreed = False

    @property
    def peer(self) -> str:
        """Who sends, for people."""
        return self._inner.peer

    async def read(self) -> bytes:
        """Wait for octets; b"" at the peer's close_notify."""
        if not self._agreed:
            await self._shake_hands()
        while True:
            data, ended = await self._decrypted_or_told()
            if data or ended:
                return data
            await self._flush()  # the answer to a change of keys
            await self._hear()

    async def write(self, data: bytes) -> None:
        """Answer; waits while the peer does not read."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._tls.write(rest) :]
            except ssl.SSLError as error:
                raise UnavailableError("TLS stream", "it has failed, and no answer can be written") from error
        await self._flush()

    async def close(self) -> None:
        """Answer the close_notify, and end the connection."""
        # SSLWantReadError where the stream was idle: the peer's answer is not awaited.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        with contextlib.suppress(UnavailableError):  # the peer was faster
            await self._flush()
        await self._inner.close()

    def abort(self) -> None:
        """End the connection so that the peer sees a failure; harmless when it has ended."""
        self._inner.abort()

    async def _shake_hands(self) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE):
                while not self._is_agreed():
                    await self._flush()
                    await self._hear()
                await self._flush()
        except TimeoutError:
            raise ProtocolError("TLS handshake", f"it was not done within {HANDSHAKE:g} s") from None
        except ssl.SSLError as error:
            with contextlib.suppress(RelayError):
                await self._flush()  # the alert that tells the peer why
            raise ProtocolError("TLS handshake", *_fault(error)) from error
        self._agreed = True

    def _is_agreed(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    async def _decrypted_or_told(self) -> tuple[bytes, bool]:
        """The same as `_decrypted`; the peer is told what is wrong with its octets."""
        try:
            return self._decrypted()
        except ProtocolError:
            with contextlib.suppress(RelayError):
                await self._flush()
            raise

    def _decrypted(self) -> tuple[bytes, bool]:
        """What can be read of what has come, and whether the peer's close_notify is the next."""
        pieces: list[bytes] = []
        size = 0
        try:
            while size < _READ:
                piece = self._tls.read(_RECORD)
                if not piece:
                    return b"".join(pieces), True
                pieces.append(piece)
                size += len(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return b"".join(pieces), True
        except ssl.SSLError as error:
            if not is_cut_off(error):
                raise ProtocolError("TLS stream", *_fault(error)) from error
            if not pieces:
                raise UnavailableError("TLS stream", "the peer ended the connection without a close_notify") from None
        return b"".join(pieces), False

    async def _hear(self) -> None:
        data = await self._inner.read()
        if data:
            self._incoming.write(data)
        elif self._agreed:
            self._incoming.write_eof()
        else:
            raise UnavailableError("TLS handshake", "the peer ended the connection")

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._inner.write(data)


def _fault(error: ssl.SSLError) -> TlsFault:
    """Whose fault it is that a handshake failed, and what repairs it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        # Python does not give a server the chain of a client that it refuses.
        now = dt.datetime.now(dt.UTC)
        return distrust(VerifyResult(error.verify_code, error.verify_message, (), now, "the sender's", "clientAuth"))
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return TlsFault("the sender has no certificate, and `ca` wants one", "give it one that `ca` has signed")
    if fault := refusal(alert(error.reason), None, "the sender", "serverAuth"):
        remedy = "it must trust the signer of `certificate`, and call this receiver by a name that is in it"
        return fault._replace(remedy=remedy)
    return TlsFault(words(error.reason), "does the sender speak TLS 1.2 or 1.3, and does nothing between change it?")
