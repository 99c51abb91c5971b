"""PROXY headers, against the examples of HAProxy's doc/proxy-protocol.txt and octets written by hand."""

import struct

import pytest
from harness.proxy_headers import SIGNATURE, addresses, version_2

from relay.syslog.proxy_header import LARGEST_HEADER, ProxyHeader, ProxyHeaderError, read_header
from relay.values.address import Address

STREAM = b"<14>behind\n"


HEADERS = {
    # section 2.1
    "TCP4": (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", Address("192.168.0.1", 56324)),
    "longest TCP4": (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Address("255.255.255.255", 65535)),
    "longest TCP6": (
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        Address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
    ),
    "IPv4 in TCP6": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", Address("192.0.2.7", 1)),
    "UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "longest UNKNOWN": (
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        None,
    ),
    "2 TCP4": (version_2(1, 0x11, addresses("192.0.2.7", "192.0.2.8")), Address("192.0.2.7", 56324)),
    "2 TCP6": (version_2(1, 0x21, addresses("2001:db8::7", "2001:db8::8")), Address("2001:db8::7", 56324)),
    "2 with values": (
        version_2(1, 0x11, addresses("192.0.2.7", "192.0.2.8") + b"\x03\0\x04\1\2\3\4" + b"\x04\0\1\0"),
        Address("192.0.2.7", 56324),
    ),
    "2 LOCAL": (version_2(0, 0, b""), None),
    "2 LOCAL with addresses": (version_2(0, 0x11, addresses("192.0.2.7", "192.0.2.8")), None),
    "2 unknown family": (version_2(1, 0x00, b""), None),
    "2 Unix": (version_2(1, 0x31, bytes(216)), None),
    "2 UDP": (version_2(1, 0x12, addresses("192.0.2.7", "192.0.2.8")), None),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_is_read_however_much_of_the_stream_is_there(name: str) -> None:
    header, sender = HEADERS[name]
    stream = header + STREAM
    for end in range(1, len(stream) + 1):
        expected = None if end < len(header) else ProxyHeader(len(header), sender)
        assert read_header(stream[:end]) == expected


BAD = {
    "no header": (STREAM, "no PROXY header"),
    "no header, but a count": (b"10 <14>1 - - -", "no PROXY header"),
    "RELP": (b"1 open 0\n", "no PROXY header"),
    "almost the word": (b"PROXYTCP4 ", "no PROXY header"),
    "too long a line": (b"PROXY TCP4 " + b"1" * 97, "longer than 107 octets"),
    "no family": (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "malformed"),
    "two spaces": (b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", "malformed"),
    "no destination port": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "malformed"),
    "no address": (b"PROXY TCP4 300.0.2.1 192.0.2.2 1 2\r\n", "no address"),
    "the other family": (b"PROXY TCP4 ::1 ::1 1 2\r\n", "no address"),
    "no port": (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", "no port"),
    "2 another version": (SIGNATURE + b"\x31\x11\0\x0c" + bytes(12), "version and command 0x31"),
    "2 another command": (SIGNATURE + b"\x22\x11\0\x0c" + bytes(12), "version and command 0x22"),
    "2 too short": (version_2(1, 0x21, addresses("192.0.2.7", "192.0.2.8")), "too short for its addresses"),
    "2 too long": (SIGNATURE + struct.pack("!BBH", 0x21, 0x11, LARGEST_HEADER), "octets"),
}


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_refused(name: str) -> None:
    begun, cause = BAD[name]
    for pieces in ([begun], [begun[:end] for end in range(1, len(begun) + 1)]):
        with pytest.raises(ProxyHeaderError, match=cause) as caught:
            list(map(read_header, pieces))
        assert "proxies" in caught.value.remedy
