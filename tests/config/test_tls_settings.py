"""The keys of a [[remote-logging-server]] whose transport is "tls", by themselves and on this machine."""

from pathlib import Path
from typing import Any

import pytest
from harness.certificates import ROUTER, Authority
from pydantic import ValidationError

from relay.config.check import check
from relay.config.configuration import read_configuration, read_settings
from relay.config.toml_text import settings_document, toml_text
from relay.values.configuration.settings import RemoteLoggingServer, Settings

FINGERPRINT = "sha-256:" + ":".join(["AB"] * 32)


def server(**keys: str) -> RemoteLoggingServer:
    table = {"transport": "tls", **keys}
    (made,) = Settings.model_validate({"remote-logging-server": [table]}).remote_logging_server
    return made


@pytest.mark.parametrize(
    ("key", "value"),
    [("ca", "/a"), ("server-name", "log.example"), ("fingerprint", FINGERPRINT), ("certificate", "/a")],
)
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_keys_of_tls_are_rejected_without_tls(key: str, value: str, transport: str) -> None:
    with pytest.raises(ValidationError, match='has an effect with `transport = "tls"` only'):
        server(**{"transport": transport, key: value})


@pytest.mark.parametrize(
    "written",
    [
        FINGERPRINT,
        FINGERPRINT.lower(),
        "sha256:" + "ab" * 32,
        "sha256 Fingerprint=" + ":".join(["AB"] * 32),  # what openssl prints
    ],
)
def test_a_fingerprint_can_be_written_as_the_rfc_or_as_openssl_does(written: str) -> None:
    assert server(fingerprint=written).fingerprint == FINGERPRINT


@pytest.mark.parametrize("wrong", ["sha-1:" + ":".join(["AB"] * 20), "AB" * 32, FINGERPRINT[:-1], FINGERPRINT + ":AB"])
def test_another_fingerprint_is_rejected_with_the_right_form(wrong: str) -> None:
    with pytest.raises(ValidationError, match="32 pairs of hexadecimal digits, as printed by `openssl x509"):
        server(fingerprint=wrong)


def test_a_private_key_needs_its_certificate() -> None:
    with pytest.raises(ValidationError, match="needs the `certificate` that it belongs to"):
        server(**{"private-key": "/a"})


def test_a_private_key_in_a_configuration_is_rejected(tmp_path: Path) -> None:
    pair = Authority(tmp_path).pair(ROUTER)
    both = pair.certificate.read_text() + pair.key.read_text()
    for keys in ({"certificate": both}, {"certificate": "/a", "private-key": pair.key.read_text()}):
        with pytest.raises(ValidationError, match=r"private-key|the path of a file"):
            server(**keys)
    with pytest.raises(ValidationError, match="needs the `private-key` that belongs to it"):
        server(certificate=pair.certificate.read_text())


def test_certificates_in_a_configuration_are_written_back_as_they_are(tmp_path: Path) -> None:
    text = Authority(tmp_path).certificate.read_text()
    written = toml_text(
        settings_document(Settings.model_validate({"remote-logging-server": [{"transport": "tls", "ca": text}]}))
    )
    assert text in written
    file = tmp_path / "relay.toml"
    file.write_text(written)
    assert read_settings([str(file)]).remote_logging_server[0].ca == text


# --- On this machine ---


def findings(folder: Path, **keys: str) -> tuple[list[str], list[str]]:
    lines = "\n".join(f"{key} = {value!r}" for key, value in {"transport": "tls", "port": "6514", **keys}.items())
    file = folder / "relay.toml"
    log = folder / "audit.log"
    log.touch()
    source = f'[[source]]\nname = "audit"\npath = "{log}"\n'
    file.write_text(f"[[remote-logging-server]]\n{lines}\n{source}".replace("'6514'", "6514"))
    found = check.check(read_configuration([str(file)]))
    return [str(mistake) for mistake in found.mistakes], [str(warning) for warning in found.warnings]


def test_correct_files_are_not_reported(tmp_path: Path) -> None:
    """Nor does it warn of missing encryption."""
    authority = Authority(tmp_path)
    pair = authority.pair(ROUTER)
    keys = {"ca": authority.certificate, "certificate": pair.certificate, "private-key": pair.key}
    assert findings(tmp_path, **{key: str(path) for key, path in keys.items()}) == ([], [])


@pytest.mark.parametrize("key", ["ca", "certificate"])
def test_a_missing_file_is_reported_at_its_key(tmp_path: Path, key: str) -> None:
    (mistake,), warnings = findings(tmp_path, **{key: "/nonexistent"})
    assert f"remote-logging-server[1].{key}: certificate /nonexistent: there is no such file" in mistake
    assert warnings == []


def test_a_private_key_that_others_can_read_is_reported_at_its_key(tmp_path: Path) -> None:
    pair = Authority(tmp_path).pair(ROUTER)
    pair.key.chmod(0o640)
    (mistake,), _ = findings(tmp_path, **{"certificate": str(pair.certificate), "private-key": str(pair.key)})
    assert f"remote-logging-server[1].private-key: private key {pair.key}: its mode 0640" in mistake


@pytest.mark.parametrize(("days", "words"), [(10, "expires in 9 days"), (2, "expires in 1 day"), (-1, "has expired")])
def test_a_certificate_that_expires_soon_is_a_warning(tmp_path: Path, days: int, words: str) -> None:
    pair = Authority(tmp_path).pair(ROUTER, days=days)
    mistakes, (warning,) = findings(tmp_path, **{"certificate": str(pair.certificate), "private-key": str(pair.key)})
    assert mistakes == []
    assert f"remote-logging-server[1].certificate: its certificate {words}; renew it" in warning


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"usage": "serverAuth"},
            "for serverAuth only; have a certificate issued with clientAuth in its extended key usage",
        ),
        ({"begins": 2}, "if that is wrong, set it (`timedatectl`)"),
    ],
)
def test_a_certificate_that_the_server_will_reject_is_a_warning(
    tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    pair = Authority(tmp_path).pair(ROUTER, **wrong)
    mistakes, (warning,) = findings(tmp_path, **{"certificate": str(pair.certificate), "private-key": str(pair.key)})
    assert mistakes == []
    assert "remote-logging-server[1].certificate: " in warning
    assert warning.endswith(words)
