"""Mistakes in the settings of `relay receive` on this machine."""

from collections.abc import Iterator

from relay.config.check.files import Finding, tls_key, unreadable, unusable_key
from relay.errors import RelayError
from relay.listener.tls import server_context
from relay.values.configuration.receiver_settings import ReceiverSettings


def receiver_mistakes(receiver: ReceiverSettings) -> Iterator[Finding]:
    """What keeps the receiver's listeners from accepting senders."""
    if (ssh := receiver.ssh) is not None:
        if sentence := unusable_key(ssh.host_key):
            yield ("receiver", "ssh", "host-key"), sentence
        if sentence := unreadable(ssh.authorized_keys):
            yield ("receiver", "ssh", "authorized-keys"), sentence
    if (tls := receiver.tls) is not None:
        try:
            server_context(tls)
        except RelayError as error:
            yield ("receiver", "tls", tls_key(error, tls.ca, tls.private_key)), str(error)
