"""known_hosts files in OpenSSH's format: its own ssh-keygen creates the keys and hashes the names."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.debian import OPENSSH, fetch
from harness.openssh import Sshd, fingerprint, generate_key, run_ssh

from relay.errors import NoInputError, PermissionRefusedError
from relay.transport.ssh.known_hosts import KnownHosts, known_hosts_line
from relay.transport.ssh.public_key import PublicKey


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


def _hash_names(file: Path) -> None:
    root = fetch(OPENSSH)
    argv = [root.file("usr/bin/ssh-keygen"), "-H", "-f", str(file)]
    subprocess.run(argv, env=root.environment(), check=True, capture_output=True)


def test_a_fingerprint_is_the_same_as_in_openssh(tmp_path: Path) -> None:
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
    with pytest.raises(PermissionRefusedError, match="is unknown"):
        _parse(f"{names} {keys['ed25519'].text}").verify(host, port, keys["ed25519"])


@pytest.mark.parametrize(("host", "port"), [("log.example", 22), ("log.example", 2222)])
def test_a_name_hashed_by_openssh_is_recognised(
    keys: dict[str, PublicKey], tmp_path: Path, host: str, port: int
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(known_hosts_line(host, port, keys["ed25519"]) + "\n")
    _hash_names(file)
    assert host not in file.read_text()
    known = KnownHosts.read(str(file))
    known.verify(host, port, keys["ed25519"])
    with pytest.raises(PermissionRefusedError, match="is unknown"):
        known.verify("elsewhere.example", port, keys["ed25519"])


def test_the_error_for_an_unknown_host_has_its_fingerprint_and_the_command_that_trusts_it(
    keys: dict[str, PublicKey],
) -> None:
    with pytest.raises(PermissionRefusedError) as refused:
        _parse().verify("log.example", 2222, keys["ed25519"])
    assert keys["ed25519"].fingerprint in refused.value.cause
    assert "relay key trust log.example:2222" in refused.value.remedy
    assert not refused.value.retryable


def test_the_error_for_a_changed_host_key_has_both_fingerprints_and_the_line(keys: dict[str, PublicKey]) -> None:
    known = _parse("# comment", known_hosts_line("log.example", 22, keys["other"]))
    with pytest.raises(PermissionRefusedError, match="changed") as refused:
        known.verify("log.example", 22, keys["ed25519"])
    assert keys["ed25519"].fingerprint in refused.value.cause
    assert f"{keys['other'].fingerprint} (line 2)" in refused.value.cause


def test_one_of_several_pinned_keys_suffices(keys: dict[str, PublicKey]) -> None:
    known = _parse(*(known_hosts_line("log.example", 22, keys[name]) for name in ("rsa", "ecdsa", "ed25519")))
    known.verify("log.example", 22, keys["ecdsa"])


def test_a_revoked_key_is_rejected_even_if_it_is_also_pinned(keys: dict[str, PublicKey]) -> None:
    known = _parse(known_hosts_line("log.example", 22, keys["rsa"]), f"@revoked * {keys['rsa'].text}")
    with pytest.raises(PermissionRefusedError, match="revoked by known_hosts line 2"):
        known.verify("log.example", 22, keys["rsa"])


_CERTIFICATE_AUTHORITY = "@cert-authority * {key}"
_LINES = {
    "the key is pinned": ("{host} {key}", True),
    "another key is pinned": ("{host} {other}", False),
    "nothing is pinned": ("", False),
    "a key type that nobody knows is revoked": ("{host} {key}\n@revoked * ssh-unheard-of AAAAB3NzaC1kc3M=", True),
    "a key type that is no longer used is revoked": ("{host} {key}\n@revoked * ssh-dss AAAAB3NzaC1kc3M=", True),
    "the key is revoked for another host": ("{host} {key}\n@revoked elsewhere.example {key}", True),
    "the key is revoked for another port": ("{host} {key}\n@revoked [127.0.0.1]:1 {key}", True),
    "the key is revoked for the host without its port": ("{host} {key}\n@revoked 127.0.0.1 {key}", True),
    "another key of the host is revoked": ("{host} {key}\n@revoked * {other}", True),
    "the key is revoked for every host": ("{host} {key}\n@revoked * {key}", False),
    "the key is revoked for the host": ("@revoked {host} {key}\n{host} {key}", False),
    "the key is revoked for all hosts but this one": ("{host} {key}\n@revoked *,!{host} {key}", True),
    "a revocation is broken": ("{host} {key}\n@revoked * ssh-ed25519 AAAA", True),
    "a line has two markers": ("{host} {key}\n@revoked @revoked * {key}", True),
    "a line has an unknown marker": ("{host} {key}\n@refused * {key}", True),
    "a certificate authority is named beside it": (f"{{host}} {{key}}\n{_CERTIFICATE_AUTHORITY}", True),
    "a certificate authority alone is named": (_CERTIFICATE_AUTHORITY, False),
    "lines are broken": ("{host}\n|1|salt|hash {key}\n{host} ssh-ed25519 AAAA\n\x00\xff\n{host} {key}", True),
    "a comment holds other line breaks": ("# one\u2028@revoked * {key}\x0bmore\x85\n{host} {key} a\u2028b", True),
    "fields are divided by tabs": ("\t{host}\t{key}", True),
    "lines end in CR LF": ("{host} {key}\r\n@revoked * {other}\r", True),
}


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.mark.parametrize("lines", _LINES)
def test_openssh_and_relay_accept_a_server_by_the_same_lines(sshd: Sshd, tmp_path: Path, lines: str) -> None:
    text, accepted = _LINES[lines]
    key, other = (_public(path).read_text().rsplit(maxsplit=1)[0] for path in (sshd.host_keys[0], sshd.other_key))
    file = tmp_path / "known_hosts"
    file.write_text(text.format(host=f"[{sshd.host}]:{sshd.port}", key=key, other=other) + "\n", newline="")

    output = run_ssh([f"{sshd.user}@{sshd.host}", "true"], key=sshd.client_key, known_hosts=file, port=sshd.port).stderr
    assert ("Host key verification failed" not in output) == accepted

    shown = PublicKey.from_text(*key.split())
    verify = contextlib.nullcontext() if accepted else pytest.raises(PermissionRefusedError)
    with verify:
        KnownHosts.read(str(file)).verify(sshd.host, sshd.port, shown)


def test_a_broken_revocation_is_a_mistake_that_names_the_consequence(keys: dict[str, PublicKey]) -> None:
    known = _parse(known_hosts_line("log.example", 22, keys["rsa"]), "@revoked * ssh-rsa AAAA")
    assert known.mistakes == ("known_hosts line 2: the key is damaged; so it revokes no key",)


def test_skipped_lines_are_named_only_for_a_server_that_no_other_line_pins(
    keys: dict[str, PublicKey],
) -> None:
    lines = ("@cert-authority log.* ssh-ed25519 AAAA", "log.example ssh-dss AAAA", "@revoked * ssh-dss AAAA")
    known = _parse(*lines, known_hosts_line("other.example", 22, keys["ed25519"]))
    assert not known.mistakes
    known.verify("other.example", 22, keys["ed25519"])
    with pytest.raises(PermissionRefusedError, match="is unknown") as refused:
        known.verify("log.example", 22, keys["rsa"])
    assert "line 1: relay does not support @cert-authority" in refused.value.cause
    assert "line 2: relay does not support keys of type ssh-dss" in refused.value.cause


@pytest.mark.parametrize(
    ("names", "port", "reason"),
    [
        ("log.example", 2222, "line 1 names log.example without a port, which means port 22 alone"),
        ("hashed", 2222, "line 1 names log.example without a port, which means port 22 alone"),
        ("*.example", 2222, "line 1 names log.example without a port, which means port 22 alone"),
        ("[log.example]:2223", 2222, "line 1 names another port, [log.example]:2223"),
        ("[log.example]:2223", 22, "line 1 names another port, [log.example]:2223"),
        ("192.0.2.7", 2222, "line 1 has this very key for 192.0.2.7"),
    ],
)
def test_a_line_for_the_server_that_does_not_cover_it_is_named(
    keys: dict[str, PublicKey], tmp_path: Path, names: str, port: int, reason: str
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"{names.replace('hashed', 'log.example')} {keys['ed25519'].text}\n")
    if names == "hashed":
        _hash_names(file)
    with pytest.raises(PermissionRefusedError) as refused:
        KnownHosts.read(str(file)).verify("log.example", port, keys["ed25519"])
    assert f"{file} has no key for it ({reason})" in refused.value.cause
    address = "log.example:2222" if port != 22 else "log.example"
    assert f"then add the key: `relay key trust {address}`" in refused.value.remedy


@pytest.mark.parametrize(
    "line",
    [
        "log.example",
        "log.example ssh-ed25519",
        "log.example ssh-ed25519 not-base64!",
        "log.example ssh-ed25519 AAAA",
        "@unknown log.example ssh-ed25519 AAAA",
        "|1|salt|hash ssh-ed25519 AAAA",
    ],
)
def test_a_bad_line_is_named_by_file_and_number_and_the_others_still_apply(
    keys: dict[str, PublicKey], line: str
) -> None:
    known = _parse(line, known_hosts_line("log.example", 22, keys["ed25519"]))
    assert [mistake.partition(":")[0] for mistake in known.mistakes] == ["known_hosts line 1"]
    known.verify("log.example", 22, keys["ed25519"])


def test_a_key_that_claims_another_type_than_it_has_is_a_mistake(keys: dict[str, PublicKey]) -> None:
    encoded = keys["rsa"].text.split()[1]
    assert _parse(f"log.example ssh-ed25519 {encoded}").mistakes


def test_a_missing_file_contains_no_keys(tmp_path: Path) -> None:
    assert not KnownHosts.read(str(tmp_path / "missing")).keys


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="cannot be read"):
        KnownHosts.read(str(tmp_path))
