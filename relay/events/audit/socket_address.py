"""The packed socket address (`saddr`) of a SOCKADDR record, as auditd's ENRICHED format resolves it (`SADDR={ … }`).

In the RAW format it is hex alone: the kernel's struct sockaddr, its family in the byte order of the machine, taken
for little-endian. What stands in the resolved form is given as fields, and nothing for what no family is known for:

    inet, inet6   laddr, lport (inet_ntop(3); where an inet6 address has a scope, `%` and its number, for only the
                  machine itself knows the interface's name)
    local         path, to its first NUL; of an abstract name, what follows that NUL
    netlink       nlnk-fam, nlnk-pid

All families that libaudit 4.0.2 has a name for give `saddr_fam`; so does an address that is too short for its family,
and then nothing else. Pure; linear in the value.
"""

import ipaddress
import struct
from binascii import Error, unhexlify
from types import MappingProxyType
from typing import Final, TypeAlias

Pairs: TypeAlias = list[tuple[bytes, bytes]]

_FAMILY: Final = 2
"""Octets."""
_INET: Final = struct.Struct(">2xH4s8x")  # linux/in.h, struct sockaddr_in
_INET6: Final = struct.Struct(">2xH4x16s4s")  # linux/in6.h, struct sockaddr_in6; the scope's order is the machine's
_NETLINK: Final = struct.Struct("<H2xI4x")  # linux/netlink.h, struct sockaddr_nl
_LEAST_LOCAL: Final = 4
_LONGEST_PATH: Final = 108  # linux/un.h, UNIX_PATH_MAX
_MAPPED: Final = 0xFFFF
_COMPATIBLE: Final = range(1 << 16, 1 << 32)
"""RFC 4291 section 2.5.5; from where six groups are zero and no more."""

_LOCAL: Final = 1
_INTERNET: Final = 2
_INTERNET6: Final = 10
_NETLINK_FAMILY: Final = 16
_NAMES: Final = (
    b"local inet ax25 ipx appletalk netrom bridge atmpvc x25 inet6 rose decnet netbeui security key netlink packet"
    b" ash econet atmsvc rds sna irda pppox wanpipe llc - - can tipc bluetooth iucv rxrpc isdn phonet ieee802154"
    b" caif alg nfc vsock kcm qipcrtr smc xdp mctp"
).split()
FAMILIES: Final = MappingProxyType({number: name for number, name in enumerate(_NAMES, 1) if name != b"-"})
"""linux/socket.h, by the names that libaudit has for them."""


def socket_address(saddr: bytes) -> Pairs:
    """Give the fields of a `saddr`; none of what is no hex or of no known family."""
    try:
        packed = unhexlify(saddr)
    except Error:
        return []
    family = int.from_bytes(packed[:_FAMILY], "little")
    name = FAMILIES.get(family)
    return [] if name is None else [(b"saddr_fam", name), *_details(family, packed)]


def _details(family: int, packed: bytes) -> Pairs:
    if family == _INTERNET and len(packed) >= _INET.size:
        port, address = _INET.unpack_from(packed)
        return _internet(str(ipaddress.IPv4Address(address)), port)
    if family == _INTERNET6 and len(packed) >= _INET6.size:
        port, address, scope = _INET6.unpack_from(packed)
        return _internet(_ipv6(address) + _scope(scope), port)
    if family == _LOCAL and len(packed) >= _LEAST_LOCAL:
        return [(b"path", _path(packed[_FAMILY:]))]
    if family == _NETLINK_FAMILY and len(packed) >= _NETLINK.size:
        family, port = _NETLINK.unpack_from(packed)
        return [(b"nlnk-fam", b"%d" % family), (b"nlnk-pid", b"%d" % port)]
    return []


def _internet(address: str, port: int) -> Pairs:
    return [(b"laddr", address.encode()), (b"lport", b"%d" % port)]


def _ipv6(packed: bytes) -> str:
    """Write it as inet_ntop(3) does: the last 32 bits as IPv4 where they are such an address."""
    address = ipaddress.IPv6Address(packed)
    if int(address) >> 32 == _MAPPED:
        return f"::ffff:{ipaddress.IPv4Address(packed[12:])}"
    if int(address) in _COMPATIBLE:
        return f"::{ipaddress.IPv4Address(packed[12:])}"
    return str(address)


def _scope(packed: bytes) -> str:
    number = int.from_bytes(packed, "little")
    return f"%{number}" if number else ""


def _path(octets: bytes) -> bytes:
    return octets.removeprefix(b"\0")[:_LONGEST_PATH].partition(b"\0")[0]
