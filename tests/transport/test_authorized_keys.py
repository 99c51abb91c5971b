"""authorized_keys lines: options that relay enforces admit a key, any other option makes relay reject it."""

from pathlib import Path

import pytest
from harness.openssh import generate_key

from relay.errors import NoInputError, PermissionRefusedError
from relay.transport.ssh.authorized_keys import AuthorizedKeys, same_host
from relay.transport.ssh.public_key import PublicKey


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> PublicKey:
    private = generate_key(tmp_path_factory.mktemp("key") / "key")
    return PublicKey.from_text(*private.with_suffix(".pub").read_text().split()[:2])


def _parse(line: str) -> AuthorizedKeys:
    return AuthorizedKeys.parse(line, "authorized_keys")


@pytest.mark.parametrize(
    "options",
    [
        "",
        "restrict,port-forwarding ",
        "no-pty,no-X11-forwarding,no-agent-forwarding,no-user-rc ",
        'restrict,port-forwarding,permitopen="127.0.0.1:9999" ',
        'permitopen="localhost:9999",permitopen="localhost:514" ',
        'permitopen="127.0.0.1:*" ',
        "Restrict,Port-Forwarding\t",
    ],
)
def test_options_that_relay_enforces_admit_the_key(key: PublicKey, options: str) -> None:
    authorized = _parse(f"{options}{key.text} router one")
    assert not authorized.mistakes
    found = authorized.find(key)
    assert found is not None
    assert found.comment == "router one"
    assert found.may_open("127.0.0.1", 9999)


@pytest.mark.parametrize(
    "options",
    [
        'from="192.0.2.0/24"',
        'command="/bin/true"',
        "cert-authority",
        "no-port-forwarding",
        'expiry-time="20300101"',
        "restrict",
        "port-forwarding,restrict",
        "pty",
        'no-pty="yes"',
        "permitopen",
        'permitopen="9999"',
        'permitopen="unclosed',
        "restrict,",
        'environment="A=\\"b\\" c"',
    ],
)
def test_any_other_option_makes_relay_reject_the_key_with_a_reason(key: PublicKey, options: str) -> None:
    authorized = _parse(f"# first\n{options} {key.text}")
    assert authorized.find(key) is None
    assert authorized.mistakes[0].startswith("authorized_keys line 2: ")


def test_permitopen_limits_the_key_to_its_destinations(key: PublicKey) -> None:
    found = _parse(f'permitopen="127.0.0.1:9999",permitopen="[2001:db8::1]:514" {key.text}').find(key)
    assert found is not None
    assert found.may_open("localhost", 9999)
    assert found.may_open("2001:db8::1", 514)
    assert not found.may_open("127.0.0.1", 514)
    assert not found.may_open("192.0.2.1", 9999)


def test_the_line_that_relay_asks_people_to_add_admits_the_key(key: PublicKey) -> None:
    found = _parse(key.authorized_line(("127.0.0.1", 9999), "router1")).find(key)
    assert found is not None
    assert found.may_open("127.0.0.1", 9999)
    assert not found.may_open("127.0.0.1", 22)


@pytest.mark.parametrize(
    ("asked", "listener", "same"),
    [
        ("localhost", "127.0.0.1", True),
        ("::1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("LOCALHOST", "::", True),
        ("192.0.2.1", "0.0.0.0", False),
        ("0.0.0.0", "127.0.0.1", False),
        ("192.0.2.1", "192.0.2.1", True),
    ],
)
def test_all_spellings_of_loopback_are_one_host(asked: str, listener: str, same: bool) -> None:
    assert same_host(asked, listener) is same


def test_a_file_that_others_can_write_to_is_rejected(tmp_path: Path) -> None:
    file = tmp_path / "authorized_keys"
    file.touch()
    file.chmod(0o666)
    with pytest.raises(PermissionRefusedError, match="0666"):
        AuthorizedKeys.read(str(file))


def test_a_file_that_others_can_replace_is_rejected(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "authorized_keys").touch(0o600)
    with pytest.raises(PermissionRefusedError, match=f"the folder {tmp_path} "):
        AuthorizedKeys.read(str(tmp_path / "authorized_keys"))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="cannot be read"):
        AuthorizedKeys.read(str(tmp_path / "missing"))
