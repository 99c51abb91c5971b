"""Do certificates end soon? Those that the configuration names, read from their files now and then.

The alarm `certificate-ends` is wanted from `SOON` days before the end on: minor, and major once it is over. Of the
certificates of a `certificate` the first that ends counts, of those of a `ca` the last: one that is trusted is enough.
What cannot be read wants no alarm here: whoever needs it says why. What a server itself shows, `relay test-connection`
tells. Files are read every `LOOKING` seconds of the boot clock, so that an alarm ends within that of a renewal.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from relay.errors import RelayError
from relay.program.watch.clock import Clocks
from relay.transport.tls.certificate import SOON, certificates, source_name
from relay.values.alarm import CERTIFICATE_ENDS, Alarm
from relay.values.settings import Settings

LOOKING: Final = 3600
_MICROSECONDS: Final = 1_000_000


class ConfiguredCertificate(NamedTuple):
    """What the configuration names."""

    about: str
    """Of which server; empty: of the receiver."""
    key: Literal["ca", "certificate"]
    source: str


class CertificateExpiry(NamedTuple):
    """When what was named ends."""

    named: ConfiguredCertificate
    at: dt.datetime


def of_servers(settings: Settings) -> tuple[ConfiguredCertificate, ...]:
    """Everything that the servers' keys name."""
    servers = settings.remote_logging_server
    return tuple(named for each in servers for named in _named(each.display_name, each.certificate, each.ca))


def of_receiver(settings: Settings) -> tuple[ConfiguredCertificate, ...]:
    """Everything that [receiver.tls] names."""
    tls = settings.receiver.tls
    return () if tls is None else _named("", tls.certificate, tls.ca)


def _named(about: str, certificate: str, ca: str) -> tuple[ConfiguredCertificate, ...]:
    return tuple(
        each
        for each in (ConfiguredCertificate(about, "certificate", certificate), ConfiguredCertificate(about, "ca", ca))
        if each.source
    )


def alarms_wanted(endings: Sequence[CertificateExpiry], now: dt.datetime) -> dict[str, Alarm]:
    """The alarm that each subject calls for, if any: of what ends first. Pure."""
    soonest: dict[str, Alarm] = {}
    for named, at in sorted(endings, key=lambda ending: ending.at, reverse=True):
        if at - now < dt.timedelta(days=SOON):
            over = at <= now
            ends = f"{'has ended' if over else 'ends'} on {at.date()}"
            text = f"{source_name(named.source)} (`{named.key}`) {ends}: renew it"
            severity: Literal["major", "minor"] = "major" if over else "minor"
            soonest[named.about] = Alarm(CERTIFICATE_ENDS, severity, text, named.about)
    return soonest


class CertificateWatch:
    """Remembers what was read last."""

    def __init__(self, watched: Sequence[ConfiguredCertificate]) -> None:
        self._watched = watched
        self._endings: list[CertificateExpiry] = []
        self._next = 0

    def look(self, now: Clocks) -> Mapping[str, Alarm]:
        """The alarm that each server calls for, by its name; under "" the receiver's."""
        if now.boot >= self._next:
            self._next = now.boot + LOOKING * _MICROSECONDS
            self._endings = [ending for each in self._watched if (ending := _ending(each)) is not None]
        return alarms_wanted(self._endings, dt.datetime.fromtimestamp(now.wall / _MICROSECONDS, dt.UTC))


def _ending(named: ConfiguredCertificate) -> CertificateExpiry | None:
    choose = max if named.key == "ca" else min
    try:
        return CertificateExpiry(named, choose(each.not_valid_after_utc for each in certificates(named.source)))
    except RelayError:
        return None
