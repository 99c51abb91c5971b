"""A listener for TLS (RFC 5425): a sender's TCP connection as one that is encrypted, and verified where that is asked.

The promise of stream.py holds: the peer's half-close is its close_notify, and only a clean close answers it with ours.
A connection that ends without one is lost, whatever came before: nobody can tell a cut from an end.

The handshake is the first read's, and takes HANDSHAKE seconds at most; what is wrong with it is a ProtocolError that
says so. TLS 1.2 and 1.3. With `ca` only such senders are let in as have a certificate that leads to it.
"""

import asyncio
import contextlib
import ssl
from typing import Final

from relay.errors import ProtocolError, RelayError, UnavailableError
from relay.intake import Submit
from relay.listener.stream import ByteStream, ListenerCounters, StreamTerms
from relay.listener.tcp import TcpListener
from relay.quantity import Address
from relay.settings import ReceiverTls
from relay.transport.certificate import certificates, identify, pem

HANDSHAKE: Final = 15.0
_READ: Final = 1 << 18  # octets given at once, at most
_RECORD: Final = 1 << 14  # of one TLS record, RFC 8446 section 5.1


def server_context(settings: ReceiverTls) -> ssl.SSLContext:
    """Read the files that the settings name; errors are those of `certificate`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    identify(context, settings.certificate, settings.private_key or settings.certificate)
    if settings.ca:
        context.load_verify_locations(cadata=pem(certificates(settings.ca)))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class TlsListener(TcpListener):
    """What listens for TLS."""

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext,
        submit: Submit,
        counters: ListenerCounters | None = None,
        terms: StreamTerms | None = None,
    ) -> None:
        super().__init__(address.host, address.port, submit, counters=counters, terms=terms)
        self._context = context

    def _stream(self, connection: ByteStream) -> ByteStream:
        return TlsStream(connection, self._context)


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
            data, ended = self._decrypted()
            if data or ended:
                return data
            await self._flush()  # the answer to a change of keys
            await self._hear()

    async def write(self, data: bytes) -> None:
        """Answer; waits while the peer does not read."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
        await self._flush()

    async def close(self) -> None:
        """Answer the close_notify, and end the connection."""
        with contextlib.suppress(
            ssl.SSLError
        ):  # SSLWantReadError, where the stream was idle: the answer is not awaited
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
            remedy = "does the sender speak TLS, and has it a certificate that `ca` knows?"
            raise ProtocolError("TLS handshake", _words(error), remedy) from error
        self._agreed = True

    def _is_agreed(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

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
        except ssl.SSLEOFError:
            if not pieces:
                raise UnavailableError("TLS stream", "the peer ended the connection without a close_notify") from None
        except ssl.SSLError as error:
            raise ProtocolError("TLS stream", _words(error)) from error
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


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not to be trusted: {error.verify_message}"
    return (error.reason or "unknown").lower().replace("_", " ")
