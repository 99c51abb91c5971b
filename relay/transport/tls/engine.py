"""TLS without I/O: ciphertext octets in, plaintext and ciphertext octets out, for either side of a connection.

A shell feeds the engine what its connection received (`feed`), reads plaintext or a `TlsState` (`read`), and sends what
the engine has ready (`ciphertext`) after each call that may produce some: `handshake`, `read`, `write` and `close`. Two
shells exist: `relay.transport.tls.transport` blocks, `relay.listener.tls` runs on asyncio.

Delivery is proven by the peer's close_notify, so the engine never confuses it with a connection that is cut off.
`tls_context` disables OP_IGNORE_UNEXPECTED_EOF, which the machine's OpenSSL settings may enable.

Errors: ssl.SSLError, when the peer breaks TLS, sends an alert, or is refused.
"""

import contextlib
import enum
import ssl
from typing import Final

from cryptography import x509

_RECORD: Final = 1 << 14
"""Octets of plaintext in one record, at most (RFC 8446 section 5.1)."""


class TlsState(enum.Enum):
    """Why there is no plaintext to read."""

    NEED_DATA = "the peer's next octets are needed"
    CLOSED = "the peer has sent its close_notify"
    CUT_OFF = "the connection ended without a close_notify"


def tls_context(protocol: int) -> ssl.SSLContext:
    """A context for TLS 1.2 and 1.3; `protocol` is ssl.PROTOCOL_TLS_CLIENT or ssl.PROTOCOL_TLS_SERVER.

    Every version of Python accepts the same certificates. A chain may end at any trusted certificate, also at an
    intermediate one (OpenSSL's -partial_chain). Python 3.13 enforces RFC 5280 to the letter by default. relay does not,
    because rsyslog, syslog-ng and OpenSSL's programs accept, for example, certificates without key identifiers.

    Renegotiation is disabled (RFC 9325 section 3.5).
    """
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


class TlsEngine:
    """One side of one connection: the client's with the `server_name` to verify, otherwise the server's."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )

    @property
    def version(self) -> str:
        """The agreed version, as `TLSv1.3`."""
        return self._tls.version() or ""

    @property
    def cipher(self) -> str:
        """OpenSSL's name of the agreed cipher suite."""
        cipher = self._tls.cipher()
        return cipher[0] if cipher else ""

    @property
    def peer_certificate(self) -> bytes:
        """The peer's certificate, in DER; b"" when it has sent none."""
        return self._tls.getpeercert(binary_form=True) or b""

    def peer_chain(self) -> list[x509.Certificate]:
        """The certificates that the peer has sent, its own first, verified or not; empty when they cannot be read."""
        # Public since Python 3.13; older versions have it under this name.
        source = self._tls if hasattr(self._tls, "get_unverified_chain") else getattr(self._tls, "_sslobj", None)
        get_chain = getattr(source, "get_unverified_chain", tuple)
        chain = []
        for each in get_chain() or ():
            try:
                if isinstance(each, bytes):
                    chain.append(x509.load_der_x509_certificate(each))
                else:
                    chain.append(x509.load_pem_x509_certificate(each.public_bytes().encode("ascii")))
            except ValueError:  # OpenSSL reads it, `cryptography` does not
                break
        return chain

    def feed(self, ciphertext: bytes) -> None:
        """Take in octets from the connection; b"" is its end."""
        if ciphertext:
            self._incoming.write(ciphertext)
        else:
            self._incoming.write_eof()

    def ciphertext(self) -> bytes:
        """Take the octets that are to be sent now; b"" when there are none."""
        return self._outgoing.read()

    def handshake(self) -> bool:
        """Continue the handshake; whether it is complete. After an error an alert for the peer is ready to be sent."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read(self) -> bytes | TlsState:
        """The next octets of plaintext, from one record at most, or why there are none."""
        try:
            return self._tls.read(_RECORD) or TlsState.CLOSED
        except ssl.SSLWantReadError:
            return TlsState.NEED_DATA
        except ssl.SSLZeroReturnError:
            return TlsState.CLOSED
        except ssl.SSLError as error:
            # Python 3.11.2 raises a plain SSLError with this reason instead of SSLEOFError.
            if isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING":
                return TlsState.CUT_OFF
            raise

    def write(self, plaintext: bytes) -> None:
        """Encrypt all of the plaintext."""
        rest = memoryview(plaintext)
        while rest:
            rest = rest[self._tls.write(rest) :]

    def close(self) -> None:
        """Send a close_notify; the peer's is not waited for."""
        with contextlib.suppress(ssl.SSLWantReadError):  # raised while the peer's close_notify has not come
            self._tls.unwrap()
