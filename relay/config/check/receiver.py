"""Mistakes in the settings of `relay receive` on this machine."""

from collections.abc import Callable, Iterator

from relay.config.check.files import Finding, tls_key, unreadable, unusable_key
from relay.config.check.servers import server_mistakes
from relay.config.key_path import KeyPath
from relay.errors import ConfigurationError, RelayError
from relay.listener.tls import server_context
from relay.system.files.file_access import group_number
from relay.system.time_zone import zone_of
from relay.transport.ssh.authorized_keys import AuthorizedKeys
from relay.values.configuration.listener_url import INTERNET, ListenerUrl
from relay.values.configuration.receiver_settings import ARCHIVE, ReceiverSettings, ReceiverTls
from relay.values.configuration.retention_settings import NEVER, RetentionSettings
from relay.values.configuration.settings import Settings
from relay.values.duration import duration_text
from relay.values.text import quoted

NAME_OF_ARCHIVE = f'the archive is "{ARCHIVE}" in status and logs; give this server another name'


def receiver_mistakes(settings: Settings) -> Iterator[Finding]:
    """What keeps the receiver's listeners from accepting senders, its archive from filing, and it from handing on."""
    receiver = settings.receiver
    of_this_machine: tuple[tuple[str, Callable[[str, str], object], str], ...] = (
        ("zone", zone_of, receiver.zone),
        ("archive-group", group_number, receiver.archive_group),
    )
    for key, find, name in of_this_machine:
        try:
            find(name, f"receiver.{key}")
        except ConfigurationError as error:
            yield ("receiver", key), f"{error.cause}; {error.remedy}"
    if (ssh := receiver.ssh) is not None:
        if sentence := unusable_key(ssh.host_key):
            yield ("receiver", "ssh", "host-key"), sentence
        try:
            AuthorizedKeys.read(ssh.authorized_keys)
        except RelayError as error:
            sentence = unreadable(ssh.authorized_keys) or f"{error.cause}; {error.remedy}"
            yield ("receiver", "ssh", "authorized-keys"), sentence
    if receiver.tls is not None:
        yield from tls_mistakes(("receiver", "tls"), receiver.tls)
    if settings.handed_on:
        used = [each for each in settings.port_forwarding if any(map(each.leads_to, settings.handed_on))]
        yield from server_mistakes(settings, used)
    for index, server in enumerate(settings.handed_on):
        if server.display_name == ARCHIVE:
            yield ("remote-logging-server", index, "name"), NAME_OF_ARCHIVE


def tls_mistakes(path: KeyPath, tls: ReceiverTls) -> Iterator[Finding]:
    """A certificate, key or list of CAs with which a listener for TLS cannot work."""
    try:
        server_context(tls)
    except RelayError as error:
        yield (*path, tls_key(error, tls.ca, tls.private_key)), str(error)


def receiver_warnings(receiver: ReceiverSettings) -> Iterator[Finding]:
    """What is legal and probably not meant: names that anybody can use after all, keys without effect."""
    seen: dict[str, int] = {}
    for index, table in enumerate(receiver.originator):
        for number, name in enumerate(table.name):
            first = seen.setdefault(name.lower(), index)
            if first != index:
                sentence = (
                    f"{quoted(name)} is also in [[receiver.originator]] {first + 1}; the senders of either table may "
                    "use it; name it in one of them"
                )
                yield ("receiver", "originator", index, "name", number), sentence
        for number, url in enumerate(table.listeners):
            if url.partition("://")[0] in INTERNET and ListenerUrl.parse(url).is_beyond_loopback:
                sentence = (
                    f"{quoted(url)} is not on loopback, so every sender that reaches it may use these names; bind a "
                    "loopback port that sshd's permitopen guards, or a key"
                )
                yield ("receiver", "originator", index, "listeners", number), sentence
        if table.networks and any(url.startswith("udp://") for url in receiver.urls):
            sentence = "prove nothing by UDP, because a sender can claim any address, and this receiver listens on UDP"
            yield ("receiver", "originator", index, "networks"), sentence
    for index, url in enumerate(map(str, receiver.urls[: len(receiver.listen)])):
        if not receiver.is_open_to(url):
            sentence = (
                f"relay does not listen on {quoted(url)}, because `require-identity` is true and the address verifies "
                "no sender; it is only a name for [receiver.ssh]"
            )
            yield ("receiver", "listen", index), sentence
    yield from _retention_warnings(receiver.retention)


def _retention_warnings(kept: RetentionSettings) -> Iterator[Finding]:
    if kept.age <= kept.compress_after and NEVER not in {kept.age, kept.compress_after}:
        cause = f"days are compressed after {duration_text(kept.compress_after)} (compress-after), which is not shorter"
        yield ("receiver", "retention", "age"), f"{cause}: they may be deleted uncompressed"
    if kept.ledgers != NEVER and kept.age == kept.size == NEVER:
        yield (
            ("receiver", "retention", "ledgers"),
            "has no effect without age or size: a day with a log keeps its ledger",
        )
    elif kept.ledgers < kept.age != NEVER:
        cause = f"a day keeps its ledger until its log is deleted after {duration_text(kept.age)} (age)"
        yield ("receiver", "retention", "ledgers"), f"is shorter than age: {cause}"
