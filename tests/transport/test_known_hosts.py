"""known_hosts files as OpenSSH writes them: its own ssh-keygen makes the keys and hashes the names."""

import subprocess
from pathlib import Path

import pytest
from harness.debian import OPENSSH, fetch
from harness.openssh import fingerprint, generate_key

from relay.errors import NoInputError, PermissionRefusedError
from relay.transport.host_key import KnownHosts, known_hosts_line
from relay.transport.public_key import PublicKey


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PublicKey]:
    folder = tmp_path_factory.mktemp("keys")
    made = {name: generate_key(folder / name, kind) for name, kind in _KINDS.items()}
    return {name: PublicKey.from_text(*_public(path).read_text().split()[:2]) for name, path in made.items()}


_KINDS = {"ed25519": "ed25519", "other": "ed25519", "ecdsa": "ecdsa", "rsa": "rsa"}


def _public(private: Path) -> Path:
    return private.with_suffix(".pub")


def _parse(*lines: str) -> KnownHosts:
    return KnownHosts.parse("\n".join(lines), "known_hosts")


def test_a_fingerprint_is_what_openssh_says(tmp_path: Path) -> None:
    private = generate_key(tmp_path / "key")
    key = PublicKey.from_text(*_public(private).read_text().split()[:2])
    assert key.fingerprint == fingerprint(_public(private))


@pytest.mark.parametrize("name", _KINDS)
def test_a_pinned_key_of_every_type_is_accepted(keys: dict[str, PublicKey], name: str) -> None:
    known = _parse(known_hosts_line("log.example", 22, keys[name]))
    known.verify("log.example", 22, keys[name])
    assert not known.mistakes


@pytest.mark.parametrize(
    ("names", "host", "port"),
    [
        ("log.example", "log.example", 22),
        ("log.example", "LOG.example", 22),
        ("[log.example]:2222", "log.example", 2222),
        ("other,log.example,192.0.2.1", "192.0.2.1", 22),
        ("*.example", "log.example", 22),
        ("lo?.example", "log.example", 22),
        ("[2001:db8::1]:2222", "2001:db8::1", 2222),
    ],
)
def test_a_line_covers_a_server_by_name_pattern_and_port(
    keys: dict[str, PublicKey], names: str, host: str, port: int
) -> None:
    _parse(f"{names} {keys['ed25519'].text} comment").verify(host, port, keys["ed25519"])


@pytest.mark.parametrize(
    ("names", "host", "port"),
    [
        ("log.example", "log.example", 2222),
        ("[log.example]:2222", "log.example", 22),
        ("log.example", "log.example.org", 22),
        ("logXexample", "log.example", 22),
        ("*.example,!log.example", "log.example", 22),
        ("!log.example,*.example", "log.example", 22),
        ("!log.example", "elsewhere.example", 22),
    ],
)
def test_a_line_does_not_cover_another_server(keys: dict[str, PublicKey], names: str, host: str, port: int) -> None:
    with pytest.raises(PermissionRefusedError, match="not known"):
        _parse(f"{names} {keys['ed25519'].text}").verify(host, port, keys["ed25519"])


@pytest.mark.parametrize(("host", "port"), [("log.example", 22), ("log.example", 2222)])
def test_a_name_hashed_by_openssh_is_recognised(
    keys: dict[str, PublicKey], tmp_path: Path, host: str, port: int
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(known_hosts_line(host, port, keys["ed25519"]) + "\n")
    root = fetch(OPENSSH)
    subprocess.run(
        [root.file("usr/bin/ssh-keygen"), "-H", "-f", str(file)],
        env=root.environment(),
        check=True,
        capture_output=True,
    )
    assert host not in file.read_text()
    known = KnownHosts.read(str(file))
    known.verify(host, port, keys["ed25519"])
    with pytest.raises(PermissionRefusedError, match="not known"):
        known.verify("elsewhere.example", port, keys["ed25519"])


def test_an_unknown_host_is_refused_with_its_fingerprint_and_the_command_that_trusts_it(
    keys: dict[str, PublicKey],
) -> None:
    with pytest.raises(PermissionRefusedError) as refused:
        _parse().verify("log.example", 2222, keys["ed25519"])
    assert keys["ed25519"].fingerprint in refused.value.cause
    assert "relay key trust log.example:2222" in refused.value.remedy
    assert not refused.value.retryable


def test_a_changed_host_key_is_refused_with_both_fingerprints_and_the_line(keys: dict[str, PublicKey]) -> None:
    known = _parse("# comment", known_hosts_line("log.example", 22, keys["other"]))
    with pytest.raises(PermissionRefusedError, match="changed") as refused:
        known.verify("log.example", 22, keys["ed25519"])
    assert keys["ed25519"].fingerprint in refused.value.cause
    assert f"{keys['other'].fingerprint} (line 2)" in refused.value.cause


def test_one_of_several_pinned_keys_suffices(keys: dict[str, PublicKey]) -> None:
    known = _parse(*(known_hosts_line("log.example", 22, keys[name]) for name in ("rsa", "ecdsa", "ed25519")))
    known.verify("log.example", 22, keys["ecdsa"])


def test_a_revoked_key_is_refused_although_it_is_pinned_as_well(keys: dict[str, PublicKey]) -> None:
    known = _parse(known_hosts_line("log.example", 22, keys["rsa"]), f"@revoked * {keys['rsa'].text}")
    with pytest.raises(PermissionRefusedError, match="revoked by known_hosts line 2"):
        known.verify("log.example", 22, keys["rsa"])


def test_a_revocation_that_cannot_be_read_refuses_every_server(keys: dict[str, PublicKey]) -> None:
    known = _parse(known_hosts_line("log.example", 22, keys["rsa"]), "@revoked * ssh-rsa AAAA")
    with pytest.raises(PermissionRefusedError, match="known_hosts line 2"):
        known.verify("log.example", 22, keys["rsa"])


def test_a_certificate_authority_pins_nothing_and_is_said_not_to_be_supported(keys: dict[str, PublicKey]) -> None:
    known = _parse(f"@cert-authority * {keys['ed25519'].text}")
    assert "not supported" in known.mistakes[0]
    with pytest.raises(PermissionRefusedError, match="not known"):
        known.verify("log.example", 22, keys["ed25519"])


@pytest.mark.parametrize(
    "line",
    [
        "log.example",
        "log.example ssh-ed25519",
        "log.example ssh-ed25519 not-base64!",
        "log.example ssh-ed25519 AAAA",
        "log.example ssh-dss AAAAB3NzaC1kc3M=",
        "@unknown log.example ssh-ed25519 AAAA",
        "|1|salt|hash ssh-ed25519 AAAA",
    ],
)
def test_a_bad_line_is_told_by_file_and_number_and_the_others_still_hold(keys: dict[str, PublicKey], line: str) -> None:
    known = _parse(line, known_hosts_line("log.example", 22, keys["ed25519"]))
    assert [mistake.partition(":")[0] for mistake in known.mistakes] == ["known_hosts line 1"]
    known.verify("log.example", 22, keys["ed25519"])


def test_a_key_that_claims_another_type_than_it_has_is_a_mistake(keys: dict[str, PublicKey]) -> None:
    encoded = keys["rsa"].text.split()[1]
    assert _parse(f"log.example ssh-ed25519 {encoded}").mistakes


def test_a_missing_file_knows_nobody(tmp_path: Path) -> None:
    assert not KnownHosts.read(str(tmp_path / "missing")).keys


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="cannot be read"):
        KnownHosts.read(str(tmp_path))
