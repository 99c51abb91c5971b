"""A listener for TLS (RFC 5425): a sender's TCP connection as one that is encrypted, and verified where that is asked.

The promise of stream.py holds: the peer's half-close is its close_notify, and only a clean close answers it with ours.
A connection that ends without one is lost, whatever came before: nobody can tell a cut from an end.

The handshake is the first read's, and takes HANDSHAKE seconds at most; what is wrong with it is a ProtocolError that
says so. With `ca` only such senders are let in as have a certificate that leads to it.

Files that change are read anew for the connections after that, so that a renewal needs no restart. What is wrong with
them is told once, and those that were read before go on to serve.
"""

import asyncio
import contextlib
import logging
import os
import ssl
from typing import Final

from relay.errors import ProtocolError, RelayError, UnavailableError
from relay.intake import Submit
from relay.listener.stream import ByteStream, ListenerCounters, StreamTerms
from relay.listener.tcp import TcpListener
from relay.quantity import Address
from relay.setting_values import is_pem
from relay.settings import ReceiverTls
from relay.transport.certificate import certificates, identify, pem
from relay.transport.tls_context import tls_context

HANDSHAKE: Final = 15.0
_READ: Final = 1 << 18  # octets given at once, at most
_RECORD: Final = 1 << 14  # of one TLS record, RFC 8446 section 5.1

_log = logging.getLogger(__name__)


def server_context(settings: ReceiverTls) -> ssl.SSLContext:
    """Read the files that the settings name; errors are those of `certificate`."""
    context = tls_context(ssl.PROTOCOL_TLS_SERVER)
    identify(context, settings.certificate, settings.private_key or settings.certificate)
    if settings.ca:
        context.load_verify_locations(cadata=pem(certificates(settings.ca)))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class ServerIdentity:
    """The context for the next connection; the first is made at once, so that its errors are told at the start."""

    def __init__(self, settings: ReceiverTls) -> None:
        self._settings = settings
        self._files = self._state_of(settings)
        self._context = server_context(settings)

    def exchange(self, settings: ReceiverTls) -> None:
        """Serve the connections that begin from now on with these settings; RelayError when that cannot be."""
        files = self._state_of(settings)
        self._context = server_context(settings)
        self._settings, self._files = settings, files

    def context(self) -> ssl.SSLContext:
        """As the files are now."""
        if (files := self._state_of(self._settings)) != self._files:
            self._files = files
            try:
                self._context = server_context(self._settings)
                _log.info("the receiver's certificates were renewed")
            except RelayError as error:
                _log.warning("the receiver's new certificates cannot be used, the former serve on: %s", error)
        return self._context

    @staticmethod
    def _state_of(settings: ReceiverTls) -> list[tuple[int, int, int] | None]:
        """What tells one state of the files from another; None for what is no file, or not there."""
        sources = (settings.certificate, settings.private_key, settings.ca)
        return [None if is_pem(source) else _state(source) for source in sources]


def _state(path: str) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None


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

    def _stream(self, connection: ByteStream) -> ByteStream:
        return TlsStream(connection, self._identity.context())


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
            remedy = "does the sender speak TLS, and has it a certificate that `ca` knows?"
            raise ProtocolError("TLS handshake", _words(error), remedy) from error
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
