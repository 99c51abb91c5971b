"""`relay key trust`, as a user calls it, against OpenSSH's sshd; its ssh is the judge of the known_hosts file."""

import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.openssh import Sshd, fingerprint, generate_key, run_ssh
from harness.ports import LOOPBACK
from harness.relay import RELAY
from harness.terminal import run_on_a_terminal

STRANGER = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
"""An Ed25519 public key that no server has."""


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    with Sshd(host_key_types=("ed25519", "ecdsa", "rsa")) as server:
        yield server


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def command(sshd: Sshd, pinned: Path, *options: str) -> list[str]:
    return [*RELAY, "key", "trust", f"{sshd.host}:{sshd.port}", "--known-hosts", str(pinned), *options]


def trust(sshd: Sshd, pinned: Path, *options: str) -> subprocess.CompletedProcess[str]:
    argv = command(sshd, pinned, *options)
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


def shown(sshd: Sshd) -> list[str]:
    """The fingerprints of the server's keys, as ssh-keygen prints them."""
    return [fingerprint(key.with_suffix(".pub")) for key in sshd.host_keys]


def openssh_accepts(sshd: Sshd, pinned: Path) -> bool:
    done = run_ssh([f"{sshd.user}@{sshd.host}", "true"], key=sshd.client_key, known_hosts=pinned, port=sshd.port)
    return "Host key verification failed" not in done.stderr


def test_a_key_that_its_fingerprint_names_is_pinned_and_openssh_accepts_the_line(sshd: Sshd, pinned: Path) -> None:
    ed25519 = shown(sshd)[0]
    done = trust(sshd, pinned, "--fingerprint", ed25519)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{pinned}: pinned ssh-ed25519 {ed25519}"
    assert pinned.read_text() == sshd.known_hosts_line(sshd.host_keys[0])
    assert openssh_accepts(sshd, pinned)


def test_every_key_of_the_server_is_shown(sshd: Sshd, pinned: Path) -> None:
    done = trust(sshd, pinned)
    assert all(one in done.stdout for one in shown(sshd))


def test_only_named_keys_are_pinned(sshd: Sshd, pinned: Path) -> None:
    ed25519, _, rsa = shown(sshd)
    done = trust(sshd, pinned, "--fingerprint", ed25519, "--fingerprint", rsa, "--json")
    result = json.loads(done.stdout)
    assert (result["schema"], result["server"]) == ("relay.key-trust/1", f"{sshd.host}:{sshd.port}")
    assert [key["fingerprint"] for key in result["pinned"]] == [ed25519, rsa]
    assert sorted(key["fingerprint"] for key in result["shown"]) == sorted(shown(sshd))
    assert len(pinned.read_text().splitlines()) == 2


def test_a_fingerprint_that_the_server_does_not_have_pins_nothing(sshd: Sshd, pinned: Path) -> None:
    ed25519 = shown(sshd)[0]
    done = trust(sshd, pinned, "--fingerprint", ed25519, "--fingerprint", "SHA256:abc")
    assert done.returncode == 77
    assert "it has no host key SHA256:abc" in done.stderr
    assert not pinned.exists()


def test_without_a_terminal_and_a_fingerprint_nothing_is_pinned_and_the_command_that_pins_is_printed(
    sshd: Sshd, pinned: Path
) -> None:
    done = trust(sshd, pinned, "--json")
    assert done.returncode == 77
    assert "there is no terminal on which its host key could be confirmed" in done.stderr
    assert "--fingerprint SHA256:" in json.loads(done.stdout)["remedy"]
    assert not pinned.exists()


def test_on_a_terminal_each_key_is_asked_about_and_only_those_with_a_yes_are_pinned(sshd: Sshd, pinned: Path) -> None:
    ed25519, ecdsa, rsa = shown(sshd)
    code, output = run_on_a_terminal(command(sshd, pinned), answers="n\ny\nn\n")
    assert code == 0, output
    assert all(f"{one} for {sshd.host}:{sshd.port}? [y/N]" in output for one in (ed25519, ecdsa, rsa))
    assert pinned.read_text() == sshd.known_hosts_line(sshd.host_keys[1])


def test_on_a_terminal_an_empty_answer_means_no(sshd: Sshd, pinned: Path) -> None:
    code, output = run_on_a_terminal(command(sshd, pinned), answers="\n\n\n")
    assert code == 77
    assert "no host key was confirmed" in output
    assert not pinned.exists()


def test_interrupted_questions_pin_nothing(sshd: Sshd, pinned: Path) -> None:
    """Not even the key that was confirmed before."""
    code, output = run_on_a_terminal(command(sshd, pinned), answers="y\n\x04")  # Ctrl-D
    assert code == 77
    assert "the questions were interrupted; nothing was pinned" in output
    assert not pinned.exists()


def test_without_a_port_the_configured_one_is_used(sshd: Sshd, tmp_path: Path) -> None:
    configuration = tmp_path / "relay.toml"
    hosts = tmp_path / "hosts"
    server = f'server-address = "{sshd.host}"\nserver-port = {sshd.port}'
    configuration.write_text(f'[[port-forwarding]]\n{server}\nknown-hosts = "{hosts}"\n')
    argv = [*RELAY, "-c", str(configuration), "key", "trust", sshd.host, "--fingerprint", shown(sshd)[0]]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert hosts.read_text() == sshd.known_hosts_line(sshd.host_keys[0])


def test_a_key_that_is_pinned_already_is_reported_and_the_file_unchanged(sshd: Sshd, pinned: Path) -> None:
    line = sshd.known_hosts_line(sshd.host_keys[2])
    pinned.write_text(line)
    for options in ((), ("--fingerprint", shown(sshd)[2])):
        done = trust(sshd, pinned, *options)
        assert done.returncode == 0
        assert "already pinned" in done.stdout
        assert pinned.read_text() == line


def test_a_further_key_is_added_by_its_fingerprint(sshd: Sshd, pinned: Path) -> None:
    pinned.write_text("# by hand\n\n" + sshd.known_hosts_line(sshd.host_keys[2]).removesuffix("\n"))
    before = pinned.read_text()
    assert trust(sshd, pinned, "--fingerprint", shown(sshd)[0]).returncode == 0
    assert pinned.read_text() == f"{before}\n{sshd.known_hosts_line(sshd.host_keys[0])}"


@pytest.mark.parametrize("options", [(), ("--fingerprint",)])
def test_a_changed_key_is_refused_and_both_are_named(sshd: Sshd, pinned: Path, options: tuple[str, ...]) -> None:
    text = f"# old\n[{sshd.host}]:{sshd.port} ssh-ed25519 {STRANGER}\n"
    pinned.write_text(text)
    done = trust(sshd, pinned, *(word for option in options for word in (option, shown(sshd)[0])))
    assert done.returncode == 77
    assert "its host key has changed" in done.stderr
    assert "(line 2)" in done.stderr
    assert "--replace" in done.stderr
    assert pinned.read_text() == text


def test_replace_removes_the_old_key_and_keeps_every_other_line(sshd: Sshd, pinned: Path) -> None:
    name = f"[{sshd.host}]:{sshd.port}"
    others = (f"a.example ssh-ed25519 {STRANGER} mine\n", f"a.example,b.example ssh-ed25519 {STRANGER}  shared\n")
    pinned.write_text(
        f"# caf\u00e9\n{others[0]}{name} ssh-ed25519 {STRANGER}\n"
        f"a.example,{name},b.example ssh-ed25519 {STRANGER}  shared\n",
        encoding="latin-1",
    )
    done = trust(sshd, pinned, "--replace", "--fingerprint", shown(sshd)[0])
    assert done.returncode == 0, done.stderr
    assert "removed ssh-ed25519" in done.stdout
    made = sshd.known_hosts_line(sshd.host_keys[0])
    assert pinned.read_text(encoding="latin-1") == f"# caf\u00e9\n{others[0]}{others[1]}{made}"
    assert openssh_accepts(sshd, pinned)


def test_replace_alone_still_requires_a_confirmation(sshd: Sshd, pinned: Path) -> None:
    text = f"[{sshd.host}]:{sshd.port} ssh-ed25519 {STRANGER}\n"
    pinned.write_text(text)
    assert trust(sshd, pinned, "--replace").returncode == 77
    assert pinned.read_text() == text
    code, output = run_on_a_terminal(command(sshd, pinned, "--replace"), answers="y\nn\nn\n")
    assert code == 0, output
    assert pinned.read_text() == sshd.known_hosts_line(sshd.host_keys[0])


def test_a_line_that_covers_other_servers_too_is_not_removed(sshd: Sshd, pinned: Path) -> None:
    text = f"[127.0.0.*]:* ssh-ed25519 {STRANGER}\n"
    pinned.write_text(text)
    done = trust(sshd, pinned, "--replace", "--fingerprint", shown(sshd)[0])
    assert done.returncode == 77
    assert "line 1" in done.stderr
    assert "by hand" in done.stderr
    assert pinned.read_text() == text


def test_a_revoked_key_is_not_pinned(sshd: Sshd, pinned: Path) -> None:
    text = f"@revoked {sshd.known_hosts_line(sshd.host_keys[0])}"
    pinned.write_text(text)
    done = trust(sshd, pinned, "--fingerprint", shown(sshd)[0])
    assert done.returncode == 77
    assert "revoked" in done.stderr
    assert pinned.read_text() == text


def test_the_file_keeps_its_mode_and_a_new_one_can_be_read_by_all(sshd: Sshd, pinned: Path) -> None:
    trust(sshd, pinned, "--fingerprint", shown(sshd)[0])
    assert stat.S_IMODE(pinned.stat().st_mode) == 0o644
    pinned.chmod(0o600)
    trust(sshd, pinned, "--fingerprint", shown(sshd)[1])
    assert stat.S_IMODE(pinned.stat().st_mode) == 0o600
    assert [path.name for path in pinned.parent.iterdir()] == [pinned.name]


def test_a_link_stays_a_link(sshd: Sshd, pinned: Path, tmp_path: Path) -> None:
    pinned.symlink_to(tmp_path / "real")
    trust(sshd, pinned, "--fingerprint", shown(sshd)[0])
    assert pinned.is_symlink()
    assert (tmp_path / "real").read_text() == sshd.known_hosts_line(sshd.host_keys[0])


def test_the_file_and_the_kinds_of_key_come_from_the_configuration(sshd: Sshd, tmp_path: Path) -> None:
    configuration = tmp_path / "relay.toml"
    configuration.write_text(
        f'[[port-forwarding]]\nserver-address = "{sshd.host}"\nserver-port = {sshd.port}\n'
        f'known-hosts = "{tmp_path}/hosts"\nalgorithms = "fips"\n'
    )
    argv = [*RELAY, "-c", str(configuration), "key", "trust", f"{sshd.host}:{sshd.port}"]
    code, output = run_on_a_terminal(argv, answers="y\ny\n")
    assert code == 0, output
    assert "warning" not in output
    kinds = [line.split()[1] for line in (tmp_path / "hosts").read_text().splitlines()]
    assert kinds == ["ecdsa-sha2-nistp256", "ssh-rsa"]


def test_a_server_that_is_not_in_the_configuration_is_a_warning(sshd: Sshd, tmp_path: Path) -> None:
    configuration = tmp_path / "relay.toml"
    configuration.write_text(f'[[port-forwarding]]\nserver-address = "b.example"\nknown-hosts = "{tmp_path}/hosts"\n')
    argv = [*RELAY, "-c", str(configuration), "key", "trust", f"{sshd.host}:{sshd.port}"]
    done = subprocess.run(
        [*argv, "--fingerprint", shown(sshd)[0]], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "no port-forwarding of the configuration leads to" in done.stderr


@pytest.mark.parametrize(
    ("server", "code", "words"),
    [
        ("nowhere.invalid", 68, "does not resolve"),
        (f"{LOOPBACK}:1", 69, "connection refused"),  # tcpmux, where nothing listens
        ("a b", 64, "is not a host name"),
        ("host:0", 64, "port 0"),
        ("host:70000", 64, "is not an address"),
    ],
)
def test_a_server_that_cannot_be_reached_has_the_usual_exit_code_and_cause(
    pinned: Path, server: str, code: int, words: str
) -> None:
    argv = [*RELAY, "key", "trust", server, "--known-hosts", str(pinned), "--fingerprint", "SHA256:x"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert words in done.stderr
    assert not pinned.exists()


def test_a_port_without_an_ssh_server_is_a_protocol_error(pinned: Path) -> None:
    from harness.collector import Collector

    with Collector(lambda _, connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as collector:
        argv = [*RELAY, "key", "trust", f"{LOOPBACK}:{collector.port}", "--known-hosts", str(pinned)]
        assert subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 76


def test_a_missing_folder_is_reported(sshd: Sshd, tmp_path: Path) -> None:
    done = trust(sshd, tmp_path / "folder" / "known_hosts", "--fingerprint", shown(sshd)[0])
    assert done.returncode == 73
    assert "its folder does not exist" in done.stderr


def test_relay_then_accepts_the_servers_host_key(sshd: Sshd, tmp_path: Path) -> None:
    """The session accepts the pinned key, and rejects a key that was made elsewhere."""
    import threading

    from relay.errors import PermissionRefusedError
    from relay.transport.ssh.session import SshSession

    pinned = tmp_path / "hosts"
    trust(sshd, pinned, "--fingerprint", shown(sshd)[1])
    forwarding = sshd.forwarding(9999, known_hosts=str(pinned))
    with SshSession.connect(forwarding, threading.Event()) as session:
        assert session.alive
    kind, blob = generate_key(tmp_path / "other").with_suffix(".pub").read_text().split()[:2]
    pinned.write_text(f"[{sshd.host}]:{sshd.port} {kind} {blob}\n")
    with pytest.raises(PermissionRefusedError, match="has changed"):
        SshSession.connect(forwarding, threading.Event())
