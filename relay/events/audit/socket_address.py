"""The packed socket address (`saddr`) of a SOCKADDR record, as auditd's ENRICHED format resolves it (`SADDR={ … }`).

In the RAW format it is only hex: the kernel's struct sockaddr, whose family is in the byte order of the machine,
assumed to be little-endian. The fields are those of the resolved form; an unknown family has no fields:

    inet, inet6   laddr, lport (inet_ntop(3); where an inet6 address has a scope, `%` and its number, because only the
                  machine itself knows the interface's name)
    local         path, to its first NUL; of an abstract name, the octets behind that NUL
    netlink       nlnk-fam, nlnk-pid

Every family with a name in libaudit 4.0.2 has `saddr_fam`. An address that is too short for its family has only that.
Pure; linear in the value.
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
"""RFC 4291 section 2.5.5; exactly six groups are zero."""

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
"""linux/socket.h, with libaudit's names."""


def socket_address(saddr: bytes) -> Pairs:
    """Return the fields of a `saddr`; none if it is not hex, or of an unknown family."""
    try:
        packed = unhexlify(saddr)
    except Error:
        return []
    family = int.from_bytes(packed[:_FAMILY], "little")
    if family not in FAMILIES:
        return []
    fields = [(b"saddr_fam", FAMILIES[family])]
    if family == _INTERNET and len(packed) >= _INET.size:
        port, address = _INET.unpack_from(packed)
        fields += _internet(str(ipaddress.IPv4Address(address)), port)
    elif family == _INTERNET6 and len(packed) >= _INET6.size:
        port, address, scope = _INET6.unpack_from(packed)
        number = int.from_bytes(scope, "little")
        fields += _internet(_ipv6(address) + (f"%{number}" if number else ""), port)
    elif family == _LOCAL and len(packed) >= _LEAST_LOCAL:
        path = packed[_FAMILY:].removeprefix(b"\0")[:_LONGEST_PATH]
        fields.append((b"path", path.partition(b"\0")[0]))
    elif family == _NETLINK_FAMILY and len(packed) >= _NETLINK.size:
        family, port = _NETLINK.unpack_from(packed)
        fields += (b"nlnk-fam", b"%d" % family), (b"nlnk-pid", b"%d" % port)
    return fields


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
