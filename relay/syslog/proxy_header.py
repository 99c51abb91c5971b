"""The PROXY protocol's header: a load balancer writes the real sender's address before the sender's stream. Pure.

The specification is HAProxy's `doc/proxy-protocol.txt`; its section 2 is cited here.

- Version 1 is a line of at most 107 octets: `PROXY TCP4 SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT CR LF`, or
  `PROXY UNKNOWN …`. Version 2 is 12 octets of signature, version and command, family, length, addresses, and values
  that are passed over.
- LOCAL and UNKNOWN, and families other than IPv4 and IPv6 over TCP, name no sender: the connection's address counts.
- Anything else is a ProxyHeaderError. Where a header is due, a stream without one is refused: the specification forbids
  to guess, because otherwise each sender could choose its address.
"""

import re
import struct
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple

from relay.errors import ProtocolError
from relay.syslog.other_protocol import PROXY_SIGNATURE
from relay.values.address import HIGHEST_PORT, Address
from relay.values.text import decoded, quoted

LARGEST_HEADER: Final = 16 + 4096
"""Octets; a longer header is refused. HAProxy's have at most some hundred."""
_LONGEST_LINE: Final = 107
_LINE: Final = b"PROXY "
_TCP: Final = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]{2,39}) [0-9A-Fa-f:.]{2,39} ([0-9]{1,5}) [0-9]{1,5}\r\n")
_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_FIXED: Final = struct.Struct("!12sBBH")
_VERSION: Final = 0x20
_LOCAL: Final = 0
_PROXY: Final = 1
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_IPV4: Final = struct.Struct("!4s4sHH")
_IPV6: Final = struct.Struct("!16s16sHH")


class ProxyHeaderError(ProtocolError):
    """The stream does not begin with a header."""

    def __init__(self, octets: bytes, cause: str) -> None:
        what = f"stream that begins with {quoted(decoded(octets))}" if octets else "stream"
        super().__init__(what, cause, "set send-proxy or send-proxy-v2 at this proxy, or remove it from proxies")
        self.octets = octets


class ProxyHeader(NamedTuple):
    """A header that was read."""

    length: int
    """Octets of the stream that it takes."""
    sender: Address | None
    """None: the proxy names no sender."""


def read_header(begun: bytes) -> ProxyHeader | None:
    """The header at the beginning of a stream; None while more octets are needed. ProxyHeaderError."""
    if PROXY_SIGNATURE.startswith(begun[: len(PROXY_SIGNATURE)]):
        return _version_2(begun)
    if _LINE.startswith(begun[: len(_LINE)]):
        return _version_1(begun)
    raise ProxyHeaderError(begun, "it has no PROXY header")


def _version_1(begun: bytes) -> ProxyHeader | None:
    text, crlf, _ = begun[:_LONGEST_LINE].partition(b"\r\n")
    if not crlf:
        if len(begun) >= _LONGEST_LINE:
            raise ProxyHeaderError(begun, f"its PROXY line is longer than {_LONGEST_LINE} octets")
        return None
    line = text + crlf
    if _UNKNOWN.fullmatch(line) is not None:
        return ProxyHeader(len(line), None)
    match = _TCP.fullmatch(line)
    if match is None:
        raise ProxyHeaderError(line, "its PROXY line is malformed")
    try:
        host = (IPv4Address if match[1] == b"TCP4" else IPv6Address)(match[2].decode("ascii"))
    except AddressValueError:
        raise ProxyHeaderError(line, "its PROXY line has no address") from None
    if int(match[3]) > HIGHEST_PORT:
        raise ProxyHeaderError(line, "its PROXY line has no port")
    return ProxyHeader(len(line), Address(_text(host), int(match[3])))


def _version_2(begun: bytes) -> ProxyHeader | None:
    if len(begun) < _FIXED.size:
        return None
    _, version, family, length = _FIXED.unpack_from(begun)
    command = version & 0x0F
    if version & 0xF0 != _VERSION or command > _PROXY:
        raise ProxyHeaderError(begun[: _FIXED.size], f"its PROXY header has version and command {version:#04x}")
    end = _FIXED.size + length
    if end > LARGEST_HEADER:
        raise ProxyHeaderError(begun[: _FIXED.size], f"its PROXY header has {end} octets")
    if len(begun) < end:
        return None
    layout = {_TCP4: _IPV4, _TCP6: _IPV6}.get(family)
    if command == _LOCAL or layout is None:
        return ProxyHeader(end, None)
    if length < layout.size:
        raise ProxyHeaderError(begun[:end], "its PROXY header is too short for its addresses")
    source, _, port, _ = layout.unpack_from(begun, _FIXED.size)
    return ProxyHeader(end, Address(_text((IPv4Address if family == _TCP4 else IPv6Address)(source)), port))


def _text(host: IPv4Address | IPv6Address) -> str:
    """As the kernel writes it; an IPv4 sender has one name, however the proxy's socket sees it."""
    return str(getattr(host, "ipv4_mapped", None) or host)
