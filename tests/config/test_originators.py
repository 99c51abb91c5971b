"""[[receiver.originator]], `zone` and `require-identity`: what is read, and which contradictions are explained."""

import re
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_network
from pathlib import Path

import pytest

from relay.archive.filing.bound_names import NameBinding
from relay.archive.filing.configured_terms import filing_terms
from relay.config.check.receiver import receiver_mistakes, receiver_warnings
from relay.config.configuration import read_settings
from relay.errors import ConfigurationError
from relay.system.time_zone import zone_of
from relay.values.configuration.receiver_settings import ReceiverSettings
from relay.values.configuration.settings import Settings

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIEunLzr1vTC5XQ8Ju8QBFNVjBXf4YNjl1uMWgKl3uWZ0"
PROOFS = f"""\
[[receiver.originator]]
name = ["fw*"]
ssh-keys = ["ssh-ed25519 {KEY} router", "SHA256:{"a" * 43}"]
certificates = ["SHA256 Fingerprint={":".join(["e1"] * 32)}", "web1.example"]
networks = ["192.0.2.0/24", "2001:db8::5"]
listeners = ["127.0.0.1:9001", "ssh://0.0.0.0:2222"]
"""
LISTENERS = '[receiver]\nlisten = ["127.0.0.1:9999", "127.0.0.1:9001"]\n'
SSH = '[receiver.ssh]\nlisten = "0.0.0.0:2222"\n'
ORIGINATOR = '[[receiver.originator]]\nname = ["fw1"]\n'


def receiver(tmp_path: Path, text: str) -> ReceiverSettings:
    file = tmp_path / "relay.toml"
    file.write_text(text)
    return read_settings([str(file)]).receiver


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        receiver(tmp_path, text)
    return [re.sub(r"^\S+?:(\d+): ", "", mistake) for mistake in caught.value.mistakes]


def test_the_proofs_are_written_as_provenance_has_them(tmp_path: Path) -> None:
    settings = receiver(tmp_path, LISTENERS + PROOFS + SSH)
    (binding,) = filing_terms(settings, UTC).bindings
    assert binding == NameBinding(
        names=("fw*",),
        ssh_keys=frozenset({"SHA256:" + "a" * 43, "SHA256:vAcK7ss2Q199DfhX/nIfqo31V4mMGXQAh5b6ZL1nKyE"}),
        certificates=frozenset({"sha-256:" + ":".join(["E1"] * 32), "web1.example"}),
        networks=(ip_network("192.0.2.0/24"), ip_network("2001:db8::5/128")),
        listeners=frozenset({"tcp://127.0.0.1:9001", "ssh://0.0.0.0:2222"}),
    )
    assert list(receiver_warnings(settings)) == []


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (ORIGINATOR, "needs one of ssh-keys, certificates, networks, listeners"),
        ('[[receiver.originator]]\nnetworks = ["::1"]\n', "is required and missing"),
        ('[[receiver.originator]]\nname = ["fw["]\nnetworks = ["::1"]\n', 'not a pattern: "[" needs characters'),
        (ORIGINATOR + 'ssh-keys = ["MD5:1"]\n', 'or a public key as in authorized_keys, not "MD5:1"'),
        (ORIGINATOR + 'certificates = ["sha-1:E1"]\n', 'must be "sha-256:" and 32 pairs of hexadecimal digits'),
        (ORIGINATOR + 'networks = ["192.0.2.1/24"]\n', 'must be a network, as in "192.0.2.0/24", or an address'),
        (
            ORIGINATOR + 'listeners = ["tcp://127.0.0.1:1"]\n',
            '"tcp://127.0.0.1:1" is not a listener of this configuration; it has "tcp://127.0.0.1:9999"',
        ),
        ('[receiver]\nzone = "Mars / Olympus"\n', 'must be "local", a time zone'),
        ("[receiver]\nrequire-identity = true\n", "leaves no listener: none can verify a sender"),
        ('[receiver]\nrequire-identity = true\n[receiver.tls]\nlisten = "0.0.0.0:6514"\n', "TLS verifies no sender"),
        ('[receiver.originator]\nname = ["x"]\n', "must be tables, each headed [[receiver.originator]]"),
    ],
)
def test_a_mistake_has_its_remedy(tmp_path: Path, text: str, mistake: str) -> None:
    (found,) = mistakes(tmp_path, text)
    assert mistake in found


def test_with_require_identity_an_address_that_verifies_nobody_is_not_listened_on(tmp_path: Path) -> None:
    bound = ORIGINATOR + 'listeners = ["127.0.0.1:9001"]\n'
    settings = receiver(tmp_path, f"{LISTENERS}require-identity = true\n{bound}{SSH}")
    urls = ("tcp://127.0.0.1:9999", "tcp://127.0.0.1:9001", "ssh://0.0.0.0:2222")
    assert [settings.is_open_to(url) for url in urls] == [False, True, True]
    ((path, sentence),) = receiver_warnings(settings)
    assert path == ("receiver", "listen", 0)
    assert 'does not listen on "tcp://127.0.0.1:9999"' in sentence
    assert all(receiver(tmp_path, LISTENERS + SSH).is_open_to(url) for url in urls)


def test_a_name_that_is_bound_twice_is_a_warning(tmp_path: Path) -> None:
    tables = '[[receiver.originator]]\nname = ["fw*", "web1"]\nnetworks = ["::1"]\n' * 2
    found = list(receiver_warnings(receiver(tmp_path, tables.replace("fw*", "FW*", 1))))
    assert [path for path, _ in found] == [("receiver", "originator", 1, "name", number) for number in (0, 1)]
    assert '"fw*" is also in [[receiver.originator]] 1' in found[0][1]


def test_a_listener_that_everybody_reaches_proves_nothing(tmp_path: Path) -> None:
    urls = '["udp://[::]:514", "tcp://0.0.0.0:601", "tcp://localhost:1", "unix:///run/relay/s"]'
    text = f"[receiver]\nlisten = {urls}\n{ORIGINATOR}listeners = {urls}\n"
    found = list(receiver_warnings(receiver(tmp_path, text)))
    assert [path for path, _ in found] == [("receiver", "originator", 0, "listeners", number) for number in (0, 1)]
    assert "every sender that reaches it may use these names" in found[0][1]


class TestTheZone:
    @pytest.mark.parametrize(
        ("name", "hours"), [("UTC", 0), ("+05:30", 5.5), ("-01:00", -1), ("Europe/Berlin", 1), ("Etc/GMT+3", -3)]
    )
    def test_is_a_name_or_an_offset(self, name: str, hours: float) -> None:
        moment = datetime(2026, 11, 30, tzinfo=UTC).astimezone(zone_of(name, "receiver.zone"))
        assert moment.utcoffset() == timedelta(hours=hours)

    @pytest.mark.parametrize(("name", "hours"), [("Asia/Tokyo", 9), (":Asia/Tokyo", 9), ("nonsense/x", 0)])
    def test_local_follows_tz(self, monkeypatch: pytest.MonkeyPatch, name: str, hours: int) -> None:
        monkeypatch.setenv("TZ", name)
        moment = datetime(2026, 11, 30, tzinfo=UTC).astimezone(zone_of("local", "receiver.zone"))
        assert moment.utcoffset() == timedelta(hours=hours)

    def test_that_the_machine_does_not_know_is_a_mistake(self, tmp_path: Path) -> None:
        settings = receiver(tmp_path, '[receiver]\nzone = "Mars/Olympus"\n')
        assert ("receiver", "zone") in dict(receiver_mistakes(Settings(receiver=settings)))
        with pytest.raises(ConfigurationError, match="does not know the time zone"):
            zone_of("Mars/Olympus", "receiver.zone")

    def test_reaches_the_archive(self, tmp_path: Path) -> None:
        east = timezone(timedelta(hours=1))
        assert filing_terms(receiver(tmp_path, LISTENERS), east).zone == east
