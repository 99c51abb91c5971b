"""Lines and fields of known_hosts and authorized_keys, compared with OpenSSH's own programs."""

import subprocess
import threading
from pathlib import Path

import pytest
from harness.debian import OPENSSH, fetch
from harness.openssh import Sshd, generate_key, run_ssh

from relay.transport.ssh.authorized_keys import AuthorizedKeys
from relay.transport.ssh.known_hosts import KnownHosts
from relay.transport.ssh.public_key import PublicKey

_BREAKS = ("\u2028", "\u2029", "\x85", "\x0c", "\x0b", "\r", "\x1c", "\x1d", "\x1e", "\0", "\u00a0", "\r\r")
_PLACES = (
    "# a comment{0}{1} {2}",
    "elsewhere {2} a comment{0}{1} {2}",
    "{0}{1} {2}",
    "{1}{0}{2}",
    "{1} {3}{0}{4}",
    "{1} {2}{0}",
    "{1} {2}{0}a comment",
    "{1} {2} a comment{0}",
    "{1}{0} {2}",
    "{1} {0}{2}",
    "elsewhere,{1}{0},more {2}",
)
"""Where a break, the name of the host, and its key are, whole and in its two parts."""


def _public(private: Path) -> str:
    return " ".join(private.with_suffix(".pub").read_text().split()[:2])


def test_openssh_and_relay_find_the_same_hosts_whatever_breaks_a_line_holds(tmp_path: Path) -> None:
    kind, encoded = _public(generate_key(tmp_path / "key")).split()
    file = tmp_path / "known_hosts"
    lines = [
        place.format(each, f"h{row}-{column}.example", f"{kind} {encoded}", kind, encoded)
        for row, place in enumerate(_PLACES)
        for column, each in enumerate(_BREAKS)
    ]
    file.write_bytes("".join(f"{line}\n" for line in lines).encode())
    known = KnownHosts.read(str(file))
    root = fetch(OPENSSH)
    found = {True: 0, False: 0}
    for row, place in enumerate(_PLACES):
        for column, each in enumerate(_BREAKS):
            if each == "\0" and "{1}{0}" in place:
                continue  # OpenSSH skips the NUL behind the names; relay uses no part of such a line
            host = f"h{row}-{column}.example"
            argv = [root.file("usr/bin/ssh-keygen"), "-l", "-F", host, "-f", str(file)]
            finds = subprocess.run(argv, env=root.environment(), check=False, capture_output=True)
            is_found = b" SHA256:" in finds.stdout or b" ED25519 " in finds.stdout
            assert bool(known.pinned(host, 22)) is is_found, (place, each)
            found[is_found] += 1
    assert min(found.values()) > 15


_ADMITTING = ("{1} a{0}b", "{1} {0}", "restrict,port-forwarding\t{1}\ta{0}b")
_NOT_ADMITTING = ("# a comment{0}{1}", "{2} a comment{0}{1}", "{0}{1}", "restrict,port-forwarding{0}{1}")


def test_sshd_and_relay_admit_the_same_keys_whatever_breaks_a_line_holds() -> None:
    """Every line of one file has a key of its own; what sshd accepts of them, it accepts with all the others there."""
    with Sshd() as sshd:
        text, expected = "", {}
        for number, place in enumerate((*_ADMITTING, *_NOT_ADMITTING)):
            each = _BREAKS[number % 5]
            private = generate_key(sshd.folder / f"key{number}")
            key, other = (
                path.with_suffix(".pub").read_text().rsplit(maxsplit=1)[0] for path in (private, sshd.other_key)
            )
            text += place.format(each, key, other) + "\n"
            expected[private] = PublicKey.from_text(*key.split())
        sshd.authorized_keys.write_bytes(text.encode())
        authorized = AuthorizedKeys.read(str(sshd.authorized_keys))
        for private, expected_key in expected.items():
            known_hosts = sshd.known_hosts
            done = run_ssh([f"{sshd.user}@{sshd.host}", "true"], key=private, known_hosts=known_hosts, port=sshd.port)
            refused = "Permission denied" in done.stderr
            assert (authorized.find(expected_key) is None) is refused, (private, done.stderr)
            admits = private.name in {f"key{number}" for number in range(len(_ADMITTING))}
            assert refused is not admits


def test_every_break_is_read_as_sshd_reads_it(tmp_path: Path) -> None:
    key = _public(generate_key(tmp_path / "key"))
    for each in _BREAKS:
        hidden = AuthorizedKeys.parse(f"# a comment{each}{key}\n", "authorized_keys")
        assert not hidden.keys, each
        assert not hidden.mistakes, each
        (found,) = AuthorizedKeys.parse(f"{key} a comment{each}{key}\n", "authorized_keys").keys
        assert found.key.text == key


def test_a_pattern_of_stars_takes_no_time(tmp_path: Path) -> None:
    key = _public(generate_key(tmp_path / "key"))
    patterns = ("*" * 60 + "b", "*a" * 60, "?*" * 30 + "!", ",".join(["*a*a*a*a*b"] * 1000))
    known = KnownHosts.parse("".join(f"{pattern} {key}\n" for pattern in patterns), "known_hosts")
    found: list[bool] = []
    worker = threading.Thread(target=lambda: found.append(bool(known.pinned("a" * 253, 22))), daemon=True)
    worker.start()
    worker.join(10)
    assert found == [True]


@pytest.mark.parametrize("line", ["a.example\u2028ssh-ed25519 AAAA", "\x0c", "\u2028", "a.example ssh-ed25519\x0bAAAA"])
def test_a_line_that_openssh_cannot_use_is_named(line: str) -> None:
    assert KnownHosts.parse(f"{line}\n", "known_hosts").mistakes
