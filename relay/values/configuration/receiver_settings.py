"""The settings of `relay receive`: [receiver] and its tables. `relay.values.configuration.settings` has the others."""

from typing import Annotated

from pydantic import AfterValidator

from relay.values.address import Address
from relay.values.configuration.setting_rules import some
from relay.values.configuration.setting_types import Certificates, ListenAddress, ListenUrl, Path, PathOrEmpty, Table


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
    ssh: ReceiverSsh | None = None
    tls: ReceiverTls | None = None
