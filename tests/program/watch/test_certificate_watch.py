"""When the configured certificates expire."""

import datetime as dt
from pathlib import Path
from typing import Literal

from harness.certificates import SERVER, Authority

from relay.program.watch.certificate_watch import (
    INTERVAL,
    CertificateWatch,
    ConfiguredCertificate,
    of_receiver,
    of_servers,
)
from relay.values.clocks import Clocks
from relay.values.configuration.settings import Settings
from relay.values.configuration.source_settings import AuditLogSource

SECOND = 1_000_000
NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


def seconds(at: dt.datetime) -> Clocks:
    return Clocks(int(at.timestamp()) * SECOND, int(at.timestamp()) * SECOND)


def test_a_renewal_is_seen_after_the_interval(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    named = ConfiguredCertificate("log server", "certificate", str(authority.pair(SERVER, days=3).certificate))
    watch, now = CertificateWatch([named]), dt.datetime.now(dt.UTC)
    (before,) = watch.look(seconds(now))
    assert (before.about, before.name) == ("log server", f"certificate {named.source} (`certificate`)")
    authority.pair(SERVER, days=90)
    assert [*watch.look(seconds(now))] == [before]
    (after,) = watch.look(seconds(now + dt.timedelta(seconds=INTERVAL)))
    assert after.at - before.at > dt.timedelta(days=86)


def test_of_a_chain_the_first_expiry_counts_and_of_what_is_trusted_the_last(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(
        b"".join(authority.pair(f"{left}.example", days=left).certificate.read_bytes() for left in (90, 3))
    )
    now = dt.datetime.now(dt.UTC)

    def days_left(key: Literal["ca", "certificate"]) -> float:
        (expiry,) = CertificateWatch([ConfiguredCertificate("", key, str(both))]).look(seconds(now))
        return (expiry.at - now) / dt.timedelta(days=1)

    assert 2 < days_left("certificate") < 4
    assert 89 < days_left("ca") < 91


def test_a_file_that_cannot_be_read_is_skipped(tmp_path: Path) -> None:
    assert CertificateWatch([ConfiguredCertificate("", "ca", str(tmp_path / "none"))]).look(seconds(NOW)) == []


def test_the_watched_certificates_are_those_that_the_configuration_names() -> None:
    servers = [{"address": "log.example", "port": 6514, "transport": "tls", "ca": "/ca.pem"}, {"port": 7777}]
    tls = {"listen": "0.0.0.0:6514", "certificate": "/own.pem"}
    settings = Settings.model_validate({"remote-logging-server": servers, "receiver": {"tls": tls}})
    of_server = ConfiguredCertificate("log.example:6514", "ca", "/ca.pem")
    assert of_servers(settings.remote_logging_server) == (of_server,)
    assert of_receiver(settings) == (ConfiguredCertificate("", "certificate", "/own.pem"), of_server)
    with_source = settings.model_copy(update={"source": (AuditLogSource(name="audit"),)})
    assert of_receiver(with_source) == of_receiver(settings)[:1]  # the server is one of `relay run`
    assert of_receiver(Settings()) == ()
