"""`deploy/relay.toml` is valid and complete, and its defaults are the defaults of the settings."""

import re
import tomllib
from pathlib import Path
from typing import Any

from relay.config.configuration import read_settings
from relay.config.toml_text import settings_document
from relay.values.configuration.receiver_settings import ReceiverSsh, ReceiverTls
from relay.values.configuration.settings import MetricsSettings, PortForwarding, RemoteLoggingServer, Settings

SAMPLE = Path(__file__).parents[2] / "deploy" / "relay.toml"
EVENTS = {"name": "events", "type": "event-collector", "command": ("/usr/bin/eventCollector128t",)}
LIVE_AUDIT = {"name": "live-audit", "type": "audit-dispatcher"}
AUDISP_REMOTE = {"name": "audisp-remote", "type": "auditd-remote"}
SYSLOG = {"name": "syslog", "type": "syslog", "tls": {"listen": "0.0.0.0:6514"}}
EXAMPLES = {
    ("port-forwarding", 0, "server-address"),
    ("receiver", "originator", 0, "name"),
    ("receiver", "originator", 0, "ssh-keys"),
    ("receiver", "expect", 0, "originator"),
    ("receiver", "expect", 0, "within"),
    ("receiver", "ssh", "listen"),
    ("receiver", "tls", "listen"),
    ("source", 0, "name"),
    ("source", 1, "command"),
    ("source", 1, "tagpass", "type"),
    ("source", 1, "tagdrop", "node"),
    ("source", 1, "fieldpass"),
    ("source", 1, "fielddrop"),
    ("source", 1, "tags", "site"),
    ("source", 4, "tls", "listen"),
}


def with_every_key(tmp_path: Path) -> Path:
    """Return the sample with the "#" taken from every line that sets a key or opens a table."""
    file = tmp_path / "relay.toml"
    file.write_text(re.sub(r"^#(?=[a-z\[])", "", SAMPLE.read_text(), flags=re.MULTILINE))
    return file


def leaves(value: object, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], object]:
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        inner = enumerate(value)
    else:
        return {path: value}
    return {key: leaf for part, element in inner for key, leaf in leaves(element, (*path, part)).items()}


def test_the_sample_is_valid() -> None:
    settings = read_settings([str(SAMPLE)])
    assert [source.origin for source in settings.source] == ["/var/log/audit/audit.log"]
    (server,) = settings.remote_logging_server
    forwarding = settings.forwarding_of(server)
    assert forwarding is not None
    assert forwarding.server_address == "172.18.4.99"


def test_every_key_of_the_settings_is_in_the_sample(tmp_path: Path) -> None:
    """The uncommented sample has exactly the keys of the settings."""
    file = with_every_key(tmp_path)
    written = leaves(tomllib.loads(file.read_text()))
    assert set(written) == set(leaves(settings_document(read_settings([str(file)]))))


def test_the_defaults_in_the_sample_are_the_defaults(tmp_path: Path) -> None:
    written = leaves(settings_document(read_settings([str(with_every_key(tmp_path))])))
    defaults = leaves(
        settings_document(
            Settings(
                source=({"name": "audit"}, EVENTS, LIVE_AUDIT, AUDISP_REMOTE, SYSLOG),
                port_forwarding=(PortForwarding(server_address="172.18.4.99"),),
                remote_logging_server=(RemoteLoggingServer(),),
                metrics=MetricsSettings(),
                receiver={
                    "originator": ({"name": ("fw1",), "ssh_keys": ("SHA256:" + "A" * 43,)},),
                    "expect": ({"originator": "fw*", "within": "10m"},),
                    "ssh": ReceiverSsh(listen="0.0.0.0:2222"),
                    "tls": ReceiverTls(listen="0.0.0.0:6514"),
                },
            )
        )
    )
    assert {key: value for key, value in written.items() if key not in EXAMPLES} == {
        key: value for key, value in defaults.items() if key not in EXAMPLES
    }
