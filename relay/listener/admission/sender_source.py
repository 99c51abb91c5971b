"""The source of a connection: the addresses that count as one sender. Pure.

An IPv4 address is a source. Of IPv6 it is a /64, because one host has as many addresses of its network as it likes.
sshd calls this PerSourceNetBlockSize.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

IPV6_PREFIX: Final = 64
_HOST_BITS: Final = 128 - IPV6_PREFIX

Networks = Iterable[IPv4Network | IPv6Network]


def source_of(address: str) -> str:
    """The source of an IP address, as text for people; any other text is its own source."""
    if (parsed := _parsed(address)) is None or isinstance(parsed, IPv4Address):
        return str(parsed or address)
    return f"{IPv6Address(int(parsed) >> _HOST_BITS << _HOST_BITS)}/{IPV6_PREFIX}"


def is_in(address: str, networks: Networks) -> bool:
    """Whether an IP address is in one of the networks; an IPv4 address that arrives over IPv6 counts as IPv4."""
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
