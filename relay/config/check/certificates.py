"""Certificates that the far end will probably reject: warnings, because the far end decides."""

import datetime as dt
from collections.abc import Iterator

from relay.config.check.files import Finding
from relay.config.key_path import KeyPath
from relay.errors import RelayError
from relay.transport.tls.certificate import SOON, certificates, days_left
from relay.transport.tls.faults import ANY_PURPOSE, purposes
from relay.values.configuration.receiver_settings import ReceiverTls
from relay.values.configuration.settings import Settings
from relay.values.configuration.source_settings import SyslogSource


def certificate_warnings(settings: Settings) -> Iterator[Finding]:
    """Warnings of certificates that expire soon, have expired, are not valid yet, or are for another purpose."""
    for index, server in enumerate(settings.remote_logging_server):
        yield from _warnings(("remote-logging-server", index, "ca"), server.ca)
        yield from _warnings(("remote-logging-server", index, "certificate"), server.certificate, "clientAuth")
    yield from _of_listener(("receiver", "tls"), settings.receiver.tls)
    for index, source in enumerate(settings.source):
        if isinstance(source, SyslogSource):
            yield from _of_listener(("source", index, "tls"), source.tls)


def _of_listener(path: KeyPath, tls: ReceiverTls | None) -> Iterator[Finding]:
    if tls is not None:
        yield from _warnings((*path, "ca"), tls.ca)
        yield from _warnings((*path, "certificate"), tls.certificate, "serverAuth")


def _warnings(path: KeyPath, source: str, purpose: str = "") -> Iterator[Finding]:
    """Warnings of the certificates in a file or a text; with a purpose, the first of them is relay's own."""
    try:
        found = certificates(source) if source else []
    except RelayError:  # reported as a mistake
        return
    left = min(map(days_left, found), default=SOON)
    if left < 0:
        yield path, "its certificate has expired; renew it"
    elif left < SOON:
        yield path, f"its certificate expires in {left} {'day' if left == 1 else 'days'}; renew it"
    if not found or not purpose:
        return
    now, begins = dt.datetime.now(dt.UTC), found[0].not_valid_before_utc
    if begins > now:
        clock = f"the clock of this machine says {now:%Y-%m-%dT%H:%M:%SZ}; if that is wrong, set it (`timedatectl`)"
        yield path, f"its certificate is not valid before {begins:%Y-%m-%dT%H:%M:%SZ}; {clock}"
    if (has := purposes(found[0])) and purpose not in has and ANY_PURPOSE not in has:
        remedy = f"have a certificate issued with {purpose} in its extended key usage"
        yield path, f"its certificate is for {', '.join(has)} only; {remedy}"
