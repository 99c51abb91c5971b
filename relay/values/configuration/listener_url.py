"""The URLs of listeners: where a program accepts syslog. A text that cannot be read raises ValueError with a sentence.

tcp://HOST:PORT             syslog, RELP and auditd, by the first octets of each stream; a bare HOST:PORT means it
udp://HOST:PORT             one message a datagram (RFC 5426)
unix:///PATH                a stream, as tcp://, for programs on this machine
unix-datagram:///PATH       one message a datagram, as /dev/log
"""

from ipaddress import ip_address
from typing import Final, NamedTuple, Self

from relay.values.address import Address
from relay.values.text import quoted

INTERNET: Final = ("tcp", "udp")
UNIX: Final = ("unix", "unix-datagram")
_LONGEST_PATH: Final = 107
"""In bytes; unix(7): sun_path has 108 with the NUL."""
_INSTEAD: Final = {
    "relp": "use tcp://, which accepts RELP too",
    "tls": "use [receiver.tls], or [source.tls] of a source",
    "ssh": "use [receiver.ssh]",
}


class ListenerUrl(NamedTuple):
    """The URL of one listener. For a Unix socket `path` is set, for the others `address`."""

    scheme: str
    address: Address = Address("", 0)
    path: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path or self.address}"

    @property
    def is_for_datagrams(self) -> bool:
        """Whether each datagram is a message; nobody can send it again."""
        return self.scheme in {"udp", "unix-datagram"}

    @property
    def is_beyond_loopback(self) -> bool:
        """Whether other machines can reach it: an address that is not of the loopback network, or any other name."""
        if self.path:
            return False
        try:
            return not ip_address(self.address.host).is_loopback
        except ValueError:
            return self.address.host.lower().rstrip(".") != "localhost"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URL, or HOST:PORT for TCP."""
        scheme, separator, rest = text.partition("://")
        if not separator:
            return cls("tcp", Address.parse(text))
        if scheme in INTERNET:
            return cls(scheme, Address.parse(rest))
        if scheme in UNIX:
            if not rest.startswith("/") or rest.endswith("/") or not rest.isprintable():
                raise ValueError(f'{quoted(text)} must name an absolute path, as in "unix:///run/relay/syslog"')
            if len(rest.encode()) > _LONGEST_PATH:
                raise ValueError(
                    f"{quoted(text)} has a path of {len(rest.encode())} bytes; a socket's has at most {_LONGEST_PATH}"
                )
            return cls(scheme, path=rest)
        instead = _INSTEAD.get(scheme, "relay listens on tcp://, udp://, unix:/// and unix-datagram:///")
        raise ValueError(f"{quoted(text)}: {instead}")
