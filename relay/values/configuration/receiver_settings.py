"""The settings of `relay receive`: [receiver] and its tables. `relay.values.configuration.settings` has the others."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from relay.values.address import LOOPBACK, Address
from relay.values.configuration.expect_settings import ReceiverExpect
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.configuration.originator_settings import ReceiverOriginator, Zone
from relay.values.configuration.retention_settings import RetentionSettings
from relay.values.configuration.setting_rules import between
from relay.values.configuration.setting_types import (
    LARGEST_MESSAGE_SIZE,
    Certificates,
    Duration,
    FileMode,
    Flag,
    ListenAddress,
    ListenUrls,
    MessageSize,
    Network,
    Path,
    PathOrEmpty,
    Size,
    Table,
    contradiction,
)
from relay.values.duration import duration_text
from relay.values.size import size_text
from relay.values.text import quoted

ARCHIVE: Final = "archive"
"""The archive's name among the destinations of a receiver."""
SMALLEST_RECEIVE_BUFFER: Final = 64 * 1024
LARGEST_RECEIVE_BUFFER: Final = 1024**3
# Listening sockets have the highest descriptors of a process, which has at most 65,536.
MOST_CONNECTIONS: Final = 60_000

Connections = Annotated[int, Field(strict=True), between(1, MOST_CONNECTIONS)]


class ListenerSettings(Table):
    """Where a program listens for syslog, and what bounds its senders together."""

    listen: ListenUrls
    receive_buffer: Annotated[Size, between(SMALLEST_RECEIVE_BUFFER, LARGEST_RECEIVE_BUFFER, size_text)] = 8 * 1024**2
    """What the kernel keeps of datagrams that relay has not read yet, for each socket."""
    socket_mode: FileMode = 0o666
    """Of Unix sockets: every program may log, as with /dev/log."""
    max_connections: Connections = 10_000
    max_connections_per_address: Connections = 1_000
    """An address is one of IPv4, or a /64 of IPv6. Not of `exempt_networks`."""
    max_unauthenticated: Connections = 100
    """Connections before the login by SSH, or the end of the handshake by TLS."""
    exempt_networks: tuple[Network, ...] = LOOPBACK
    """Whose addresses have no ceiling and get no penalty; all senders behind a tunnel have a loopback address."""
    first_message_timeout: Annotated[Duration, between(60, 86_400, duration_text)] = 600.0
    """After which a connection is reset that has not sent a message yet."""


class ReceiverSsh(Table):
    """[receiver.ssh]: the receiver's own SSH end."""

    listen: ListenAddress
    host_key: Path = "/etc/relay/ssh_host_ed25519_key"
    authorized_keys: Path = "/etc/relay/authorized_keys"


class ReceiverTls(Table):
    """[receiver.tls]: a listener for senders by TLS (RFC 5425)."""

    listen: ListenAddress
    certificate: Certificates = "/etc/relay/receiver.pem"
    private_key: PathOrEmpty = "/etc/relay/receiver.key"
    ca: Certificates = ""
    """Only senders with a certificate of one of these CAs are accepted; empty: all senders."""


class ReceiverSettings(ListenerSettings):
    """[receiver]: where `relay receive` listens, and its archive."""

    listen: ListenUrls = (ListenerUrl("tcp", Address("127.0.0.1", 9999)),)
    archive: Path = "/var/log/relay"
    max_message_size: MessageSize = LARGEST_MESSAGE_SIZE
    proxy_protocol: Flag = False
    proxies: tuple[Network, ...] = ()
    """The addresses whose streams begin with a PROXY header."""
    archive_format: Literal["text", "json"] = "text"
    archive_mode: FileMode = 0o640
    """Of logs and ledgers; folders get x where these get r."""
    archive_group: str = ""
    """Empty: that of the process, or of the folder above."""
    zone: Zone = "local"
    """Of time stamps without one."""
    require_identity: Flag = False
    """Whether only senders are accepted whose identity is verified, or whose listener an originator is bound to."""
    originator: tuple[ReceiverOriginator, ...] = ()
    expect: tuple[ReceiverExpect, ...] = ()
    ssh: ReceiverSsh | None = None
    tls: ReceiverTls | None = None
    retention: RetentionSettings = RetentionSettings()

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of all listeners that the configuration names."""
        others = [f"{name}://{table.listen}" for name, table in (("tls", self.tls), ("ssh", self.ssh)) if table]
        return (*map(str, self.listen), *others)

    def is_open_to(self, url: str) -> bool:
        """Whether the receiver listens there; with `require-identity` not where nobody would be verified."""
        is_verified = url.startswith(("ssh://", "tls://")) or any(url in each.listeners for each in self.originator)
        return is_verified or not self.require_identity

    @model_validator(mode="after")
    def _proxies_belong_to_the_protocol(self) -> "ReceiverSettings":
        mistake = None
        if self.proxy_protocol and not self.proxies:
            sentence = "needs `proxies`, the addresses of the load balancers; any other peer could claim any address"
            mistake = contradiction(sentence, ("proxy-protocol",), self.proxy_protocol)
        elif self.proxies and not self.proxy_protocol:
            mistake = contradiction("has an effect with `proxy-protocol = true` only", ("proxies",), self.proxies)
        if mistake is not None:
            raise ValidationError.from_exception_data("receiver", [mistake])
        return self

    @model_validator(mode="after")
    def _can_verify_its_senders(self) -> "ReceiverSettings":
        mistakes = [
            contradiction(
                f"{quoted(url)} is not a listener of this configuration; it has {', '.join(map(quoted, self.urls))}",
                ("originator", index, "listeners", number),
                url,
            )
            for index, table in enumerate(self.originator)
            for number, url in enumerate(table.listeners)
            if url not in self.urls
        ]
        if self.require_identity:
            mistakes += self._unverified()
        if mistakes:
            raise ValidationError.from_exception_data("receiver", mistakes)
        return self

    def _unverified(self) -> Iterator[InitErrorDetails]:
        """What `require-identity` contradicts."""
        for index, url in enumerate(self.urls):
            if url.startswith(("udp://", "unix-datagram://")):
                sentence = (
                    f"{quoted(url)} cannot verify a sender, and `require-identity` is true; leave one of them out"
                )
                yield contradiction(sentence, ("listen", index), url)
        if self.tls is not None and not self.tls.ca:
            sentence = "is empty, so TLS verifies no sender, and `require-identity` is true; name the senders' CA"
            yield contradiction(sentence, ("tls", "ca"), "")
        if not any(self.is_open_to(url) for url in self.urls):
            sentence = (
                "leaves no listener: none can verify a sender; add [receiver.ssh] or [receiver.tls], or bind "
                "a listener of `listen` in [[receiver.originator]]"
            )
            yield contradiction(sentence, ("require-identity",), value=True)
