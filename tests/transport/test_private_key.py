"""Private key files that ssh-keygen creates."""

import base64
import contextlib
from pathlib import Path

import pytest
from harness.openssh import fingerprint, generate_key

from relay.errors import NoInputError, PermissionRefusedError
from relay.transport.ssh.private_key import load, public_key


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ed25519", ()),
        ("ecdsa", ()),
        ("ecdsa", ("-b", "521")),
        ("rsa", ()),
        ("rsa", ("-m", "PEM")),
        ("ecdsa", ("-m", "PEM")),
        ("ecdsa", ("-m", "PKCS8")),
        ("rsa", ("-m", "PKCS8")),
        ("ecdsa", ("-C", "")),
        ("ed25519", ("-C", "")),
    ],
)
def test_keys_of_every_supported_kind_load(tmp_path: Path, kind: str, options: tuple[str, ...]) -> None:
    path = generate_key(tmp_path / "key", kind, *options)
    assert public_key(load(str(path))).fingerprint == fingerprint(path.with_suffix(".pub"))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_the_error_for_a_key_that_others_can_read_has_the_command_that_repairs_it(tmp_path: Path, mode: int) -> None:
    path = generate_key(tmp_path / "key")
    path.chmod(mode)
    with pytest.raises(PermissionRefusedError, match=f"mode {mode:04o}") as refused:
        load(str(path))
    assert f"chmod 600 {path}" in refused.value.remedy


def test_the_error_for_a_missing_key_has_the_command_that_creates_one(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="no such file") as refused:
        load(str(tmp_path / "key"))
    assert "relay key generate" in refused.value.remedy


@pytest.mark.parametrize(("kind", "options"), [("ed25519", ()), ("rsa", ("-m", "PEM")), ("ecdsa", ("-m", "PKCS8"))])
def test_a_key_with_a_passphrase_is_rejected(tmp_path: Path, kind: str, options: tuple[str, ...]) -> None:
    path = generate_key(tmp_path / "key", kind, *options, passphrase="secret words")
    with pytest.raises(PermissionRefusedError, match="passphrase"):
        load(str(path))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519 AAAA public",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n",
    ],
)
def test_a_file_that_is_not_a_private_key_is_an_error_and_never_a_traceback(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(NoInputError):
        load(str(path))


def test_a_key_cut_short_anywhere_is_an_error(tmp_path: Path) -> None:
    path = generate_key(tmp_path / "key")
    whole = path.read_bytes()
    for length in range(0, len(whole) - 45, 7):
        path.write_bytes(whole[:length] + whole[-36:])
        with pytest.raises((NoInputError, PermissionRefusedError)):
            load(str(path))


@pytest.mark.parametrize("octet", [0, 2, 255])
def test_a_key_with_any_octet_changed_loads_or_is_rejected_with_a_cause(tmp_path: Path, octet: int) -> None:
    path = generate_key(tmp_path / "key", "ecdsa")
    first, *encoded, last = path.read_text().splitlines()
    whole = base64.b64decode("".join(encoded))
    for at in range(len(whole)):
        harmed = whole[:at] + bytes([octet]) + whole[at + 1 :]
        path.write_text(f"{first}\n{base64.encodebytes(harmed).decode()}{last}\n")
        with contextlib.suppress(NoInputError, PermissionRefusedError):
            load(str(path))


def test_a_folder_is_not_a_key(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="not a file"):
        load(str(tmp_path))


def test_fips_rejects_an_ed25519_key_and_accepts_an_ecdsa_key(tmp_path: Path) -> None:
    with pytest.raises(PermissionRefusedError, match="fips"):
        load(str(generate_key(tmp_path / "ed25519")), "fips")
    load(str(generate_key(tmp_path / "ecdsa", "ecdsa", "-b", "384")), "fips")
