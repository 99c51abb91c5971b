import datetime as dt
from pathlib import Path

import pytest
from harness.certificates import SERVER, Authority

from relay.program.watch.certificates import (
    LOOKING,
    CertificateExpiry,
    CertificateWatch,
    ConfiguredCertificate,
    alarms_wanted,
    of_receiver,
    of_servers,
)
from relay.program.watch.clock import Clocks
from relay.transport.tls.certificate import SOON
from relay.values.settings import Settings

SECOND = 1_000_000
NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
OWN = ConfiguredCertificate("a", "certificate", "/own.pem")
TRUSTED = ConfiguredCertificate("a", "ca", "/ca.pem")


def days(count: float) -> dt.datetime:
    return NOW + dt.timedelta(days=count)


def seconds(at: dt.datetime) -> Clocks:
    return Clocks(int(at.timestamp()) * SECOND, int(at.timestamp()) * SECOND)


@pytest.mark.parametrize(
    ("left", "alarm"),
    [
        (SOON, None),
        (SOON - 0.01, ("minor", "certificate /own.pem (`certificate`) ends on 2026-12-22: renew it")),
        (0.001, ("minor", "certificate /own.pem (`certificate`) ends on 2026-11-22: renew it")),
        (0, ("major", "certificate /own.pem (`certificate`) has ended on 2026-11-22: renew it")),
        (-400, ("major", "certificate /own.pem (`certificate`) has ended on 2025-10-18: renew it")),
    ],
)
def test_an_end_that_is_near_is_an_alarm_and_one_that_has_come_a_worse_one(
    left: float, alarm: tuple[str, str] | None
) -> None:
    wanted = alarms_wanted([CertificateExpiry(OWN, days(left))], NOW)
    assert {name: (each.severity, each.text) for name, each in wanted.items()} == ({"a": alarm} if alarm else {})


def test_what_ends_first_is_told_of_each_server() -> None:
    other = ConfiguredCertificate("b", "ca", "/ca.pem")
    wanted = alarms_wanted(
        [CertificateExpiry(OWN, days(9)), CertificateExpiry(TRUSTED, days(5)), CertificateExpiry(other, days(7))], NOW
    )
    assert {name: each.text.partition(") ")[2] for name, each in wanted.items()} == {
        "a": "ends on 2026-11-27: renew it",
        "b": "ends on 2026-11-29: renew it",
    }


def test_a_renewal_is_seen_without_a_restart(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    named = ConfiguredCertificate("", "certificate", str(authority.pair(SERVER, days=3).certificate))
    watch, now = CertificateWatch([named]), dt.datetime.now(dt.UTC)
    assert watch.look(seconds(now))[""].severity == "minor"
    authority.pair(SERVER, days=90)
    assert "" in watch.look(seconds(now))
    assert watch.look(seconds(now + dt.timedelta(seconds=LOOKING))) == {}


def test_of_a_chain_the_first_end_counts_and_of_what_is_trusted_the_last(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(
        b"".join(authority.pair(f"{left}.example", days=left).certificate.read_bytes() for left in (90, 3))
    )
    now = seconds(dt.datetime.now(dt.UTC))
    assert CertificateWatch([ConfiguredCertificate("", "certificate", str(both))]).look(now) != {}
    assert CertificateWatch([ConfiguredCertificate("", "ca", str(both))]).look(now) == {}


def test_what_cannot_be_read_is_left_to_those_who_need_it(tmp_path: Path) -> None:
    assert CertificateWatch([ConfiguredCertificate("", "ca", str(tmp_path / "none"))]).look(seconds(NOW)) == {}


def test_what_is_watched_is_what_the_configuration_names() -> None:
    servers = [{"address": "log.example", "port": 6514, "transport": "tls", "ca": "/ca.pem"}, {"port": 7777}]
    tls = {"listen": "0.0.0.0:6514", "certificate": "/own.pem"}
    settings = Settings.model_validate({"remote-logging-server": servers, "receiver": {"tls": tls}})
    assert of_servers(settings) == (ConfiguredCertificate("log.example:6514", "ca", "/ca.pem"),)
    assert of_receiver(settings) == (ConfiguredCertificate("", "certificate", "/own.pem"),)
    assert of_receiver(Settings()) == ()


def test_the_alarm_is_about_its_server() -> None:
    alarm = alarms_wanted([CertificateExpiry(OWN, days(1))], NOW)["a"]
    assert (alarm.name, alarm.about) == ("certificate-ends", "a")
