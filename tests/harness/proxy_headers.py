"""PROXY protocol headers, version 2, as HAProxy's doc/proxy-protocol.txt describes them in section 2.2."""

import struct
from ipaddress import ip_address
from typing import Final

SIGNATURE: Final = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"


def version_2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(body)) + body


def addresses(source: str, destination: str) -> bytes:
    return ip_address(source).packed + ip_address(destination).packed + struct.pack("!HH", 56324, 514)
