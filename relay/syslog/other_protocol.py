"""Streams of other protocols, recognised by their first octets, so that a log can name them. Pure.

Only a stream's first octets decide. A sender that has sent a message may send any line after it, also `GET / HTTP/1.1`.
An HTTP request is recognised by its whole first line, so that a message `GET the door` is a message.
"""

import re
from typing import Final, NamedTuple

from relay.errors import ProtocolError
from relay.values.text import decoded, quoted

PROXY_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""The first octets of a PROXY protocol header, version 2."""
_LONGEST_REQUEST: Final = 8192
_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI")
_REQUEST: Final = re.compile(rb"(?:%b) [^ \r\n]+ HTTP/[0-9](?:\.[0-9])?(?:\r?\n|\r?\Z)" % b"|".join(_METHODS))


class OtherProtocol(NamedTuple):
    """A protocol that a syslog port does not serve."""

    name: str
    remedy: str


_TLS: Final = OtherProtocol("TLS", "send it to the port of [receiver.tls], or send plain syslog to this one")
_SSH: Final = OtherProtocol("SSH", "connect to the port of [receiver.ssh], and forward to this one through it")
_HTTP: Final = OtherProtocol("HTTP", "point the client elsewhere; a health check should only open and close TCP")
_PROXY: Final = OtherProtocol(
    "a PROXY header, version 2", "set [receiver] proxy-protocol = true, and name the proxy's address in proxies"
)
NO_TLS: Final = OtherProtocol("not TLS", "switch TLS on at the sender, or send it to a tcp:// address of [receiver]")
"""What the TLS listener says of a stream that does not begin with a handshake."""
_BY_BEGINNING: Final = {b"\x16\x03": _TLS, b"SSH-": _SSH, PROXY_SIGNATURE: _PROXY}


class OtherProtocolError(ProtocolError):
    """The stream is of another protocol; `octets` are its first ones."""

    def __init__(self, other: OtherProtocol, octets: bytes) -> None:
        cause = f"it begins with {quoted(decoded(octets))}, which is {other.name}"
        super().__init__("stream", cause, other.remedy)
        self.octets = octets


def other_protocol(begun: bytes, *, ended: bool = False) -> OtherProtocol | None:
    """The protocol of a stream with these first octets; None while it may be syslog."""
    for beginning, other in _BY_BEGINNING.items():
        if begun.startswith(beginning):
            return other
    request = _REQUEST.match(begun, 0, _LONGEST_REQUEST)
    return _HTTP if request is not None and (ended or request[0].endswith(b"\n")) else None


def is_tls(begun: bytes) -> bool:
    """Whether octets may begin a TLS handshake (RFC 8446 section 5.1)."""
    return b"\x16\x03".startswith(begun[:2])


def needs_more(begun: bytes) -> bool:
    """Whether more octets are needed to recognise the stream's protocol."""
    if any(beginning.startswith(begun) for beginning in _BY_BEGINNING):
        return True
    if b"\n" in begun or len(begun) >= _LONGEST_REQUEST:
        return False
    return any(begun.startswith(method + b" ") or (method + b" ").startswith(begun) for method in _METHODS)
