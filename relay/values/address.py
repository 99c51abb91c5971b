"""Hosts and ports as people write them. A text that cannot be read raises ValueError with a sentence that quotes it.

Of a sender it also says which addresses count as one, its source. An IPv4 address is a source. Of IPv6 it is a /64,
because one host has as many addresses of its network as it likes. sshd calls this PerSourceNetBlockSize.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple, Self

from relay.values.text import quoted

HIGHEST_PORT: Final = 65535
# A host name of RFC 1123 section 2.1, and the underscore that names in the field have.
_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_ADDRESS: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]{1,6})")

IPV6_PREFIX: Final = 64
_HOST_BITS: Final = 128 - IPV6_PREFIX

LOOPBACK: Final = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
"""Behind sshd all senders have an address of these."""

Networks = Iterable[IPv4Network | IPv6Network]


class Address(NamedTuple):
    """A host and a port; written HOST:PORT, with an IPv6 address in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read HOST:PORT. Port 0 is legal: a listener then takes any free port."""
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match[3]) > HIGHEST_PORT:
            raise ValueError(
                f'{quoted(text)} is not an address; write HOST:PORT, as in "127.0.0.1:9999" or "[::1]:9999"'
            )
        return cls(parse_host(match[1] if match[2] is None else match[2]), int(match[3]))


def parse_host(text: str) -> str:
    """The text itself, when it is a host name or an IP address (IPv6 without brackets)."""
    # A name never ends in a number (RFC 1123 section 2.1); a text that does must be an IP address.
    if not _HOST_NAME.fullmatch(text) or text.rstrip(".").rpartition(".")[2].isdecimal():
        try:
            ip_address(text)
        except ValueError:
            raise ValueError(f"{quoted(text)} is not a host name or an IP address") from None
    return text


def canonical_host(text: str) -> str:
    """An IP address in its one spelling, other text as it is; an IPv4-mapped IPv6 address is the IPv4 address.

    RFC 5952; RFC 4291 section 2.5.5.2.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return text
    return str((isinstance(address, IPv6Address) and address.ipv4_mapped) or address)


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
