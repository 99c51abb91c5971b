"""When the certificates that the configuration names expire, read from their files now and then.

Of the certificates of a `certificate` the first to expire counts. Of those of a `ca` the last one does, because one
that is trusted is enough. A file that cannot be read is skipped here: its user reports why. The certificate that a
server itself shows is checked by `relay test-connection`. The files are read every `INTERVAL` seconds of the boot
clock, so an alarm ends within that time of a renewal.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from relay.errors import RelayError
from relay.transport.tls.certificate import certificates, source_name
from relay.values.clocks import Clocks
from relay.values.configuration.settings import RemoteLoggingServer, Settings
from relay.values.configuration.source_settings import SourceTable, SyslogSource

INTERVAL: Final = 3600
_MICROSECONDS: Final = 1_000_000


class ConfiguredCertificate(NamedTuple):
    """A certificate that the configuration names."""

    about: str
    """The server whose key names it; empty: the receiver."""
    key: Literal["ca", "certificate"]
    source: str
    """The key's value: a file, or the certificate itself."""


class CertificateExpiry(NamedTuple):
    """When a configured certificate expires."""

    about: str
    name: str
    """Its file and its key, for a sentence."""
    at: dt.datetime


def of_servers(servers: Sequence[RemoteLoggingServer]) -> tuple[ConfiguredCertificate, ...]:
    """Every certificate that the servers' keys name."""
    return tuple(named for each in servers for named in _named(each.display_name, each.certificate, each.ca))


def of_sources(sources: Sequence[SourceTable]) -> tuple[ConfiguredCertificate, ...]:
    """Every certificate with which a source listens."""
    tables = [each.tls for each in sources if isinstance(each, SyslogSource) and each.tls is not None]
    return tuple(named for each in tables for named in _named("", each.certificate, each.ca))


def of_receiver(settings: Settings) -> tuple[ConfiguredCertificate, ...]:
    """Every certificate that [receiver.tls] names, and the servers to which it hands on."""
    tls = settings.receiver.tls
    own = () if tls is None else _named("", tls.certificate, tls.ca)
    return (*own, *of_servers(settings.handed_on))


def _named(about: str, certificate: str, ca: str) -> tuple[ConfiguredCertificate, ...]:
    both = ConfiguredCertificate(about, "certificate", certificate), ConfiguredCertificate(about, "ca", ca)
    return tuple(each for each in both if each.source)


class CertificateWatch:
    """Reads the files, and keeps the result until the next reading."""

    def __init__(self, watched: Sequence[ConfiguredCertificate]) -> None:
        self._watched = watched
        self._expiries: list[CertificateExpiry] = []
        self._next_reading = 0

    def look(self, now: Clocks) -> Sequence[CertificateExpiry]:
        """When each certificate expires, by the last reading."""
        if now.boot >= self._next_reading:
            self._next_reading = now.boot + INTERVAL * _MICROSECONDS
            self._expiries = []
            for about, key, source in self._watched:
                try:
                    times = [each.not_valid_after_utc for each in certificates(source)]
                except RelayError:
                    continue
                at = max(times) if key == "ca" else min(times)
                self._expiries.append(CertificateExpiry(about, f"{source_name(source)} (`{key}`)", at))
        return self._expiries
