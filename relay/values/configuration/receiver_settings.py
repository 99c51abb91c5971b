"""The settings of `relay receive`: [receiver] and its tables. `relay.values.configuration.settings` has the others."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from relay.values.address import Address
from relay.values.configuration.originator_settings import ReceiverOriginator, Zone
from relay.values.configuration.retention_settings import RetentionSettings
from relay.values.configuration.setting_rules import some
from relay.values.configuration.setting_types import (
    LARGEST_MESSAGE_SIZE,
    Certificates,
    Flag,
    ListenAddress,
    ListenUrl,
    MessageSize,
    Network,
    Path,
    PathOrEmpty,
    Table,
    contradiction,
)
from relay.values.text import quoted


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


class ReceiverSettings(Table):
    """[receiver]: the addresses on which `relay receive` listens, and its archive."""

    listen: Annotated[tuple[ListenUrl, ...], AfterValidator(some)] = (Address("127.0.0.1", 9999),)
    archive: Path = "/var/log/relay"
    max_message_size: MessageSize = LARGEST_MESSAGE_SIZE
    proxy_protocol: Flag = False
    proxies: tuple[Network, ...] = ()
    """The addresses whose streams begin with a PROXY header."""
    zone: Zone = "local"
    """Of time stamps without one."""
    require_identity: Flag = False
    """Whether only senders are accepted whose identity is verified, or whose listener an originator is bound to."""
    originator: tuple[ReceiverOriginator, ...] = ()
    ssh: ReceiverSsh | None = None
    tls: ReceiverTls | None = None
    retention: RetentionSettings = RetentionSettings()

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of all listeners that the configuration names."""
        others = [f"{name}://{table.listen}" for name, table in (("tls", self.tls), ("ssh", self.ssh)) if table]
        return (*(f"tcp://{address}" for address in self.listen), *others)

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
                f"{quoted(url)} is not a listener of this configuration; it has {_listed(self.urls)}",
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
        for index, url in enumerate(map(str, self.urls)):
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


def _listed(urls: tuple[str, ...]) -> str:
    return ", ".join(map(quoted, urls))
