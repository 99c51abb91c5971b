"""What strangers send under a router's name and run changes no verdict of `relay archive verify`, and hides nothing."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import paramiko
import pytest
from archive.relay_events import THIRD, gap, heartbeat, lost, numbered, opening
from harness.openssh import Sshd, fingerprint, generate_key
from harness.ports import LOOPBACK, free_port
from harness.receiver import Receiver, identities
from harness.relay import RELAY, Router, archived, nothing_waits
from harness.waiting import wait_until
from source.log_writing import record

HIGH = 10**12
OWN_CHANNEL = ("127.114.108.121", 1)


def strangers_lines(run: bytes) -> list[bytes]:
    """Each would have made the check fail for ever, or excused a loss."""
    messages = [
        heartbeat(900, run=run, relay=899, audit=HIGH),
        opening(run=THIRD, previous=run, relay=HIGH, audit=HIGH),
        opening(901, run=run, previous=b"\3" * 8, relay=7),
        gap(902, lost(1, HIGH), run=run),
        *numbered(HIGH, run=run),
        *numbered(1, run=run),
    ]
    return [message.replace(b" router1 ", b" combo1 ") for message in messages]


def framed(messages: list[bytes]) -> bytes:
    return b"".join(b"%d %b" % (len(message), message) for message in messages)


def send(port: int, messages: list[bytes]) -> None:
    """Return when they are accepted, or passed on by a forwarding."""
    with socket.create_connection((LOOPBACK, port), timeout=60) as program:
        program.sendall(framed(messages))
        program.shutdown(socket.SHUT_WR)
        assert program.recv(1) == b""


def send_by_ssh(port: int, key: Path, destination: tuple[str, int], messages: list[bytes]) -> None:
    """As relay's own delivery does, with the mark of its channels."""
    with socket.create_connection((LOOPBACK, port), 30) as sock, paramiko.Transport(sock) as transport:
        transport.connect(username="relay", pkey=paramiko.Ed25519Key.from_private_key_file(str(key)))
        channel = transport.open_channel("direct-tcpip", destination, OWN_CHANNEL, timeout=30)
        channel.sendall(framed(messages))
        channel.shutdown_write()
        assert channel.recv(1) == b""


def verify(archive: Path, configuration: str = "") -> tuple[int, str, dict[str, Any]]:
    argv = [*RELAY, "archive", "verify", str(archive)]
    if configuration:
        file = archive.parent / "bound.toml"
        file.write_text(configuration)
        file.chmod(0o600)
        argv += ["-c", str(file)]
    text = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    shown = subprocess.run([*argv, "--json"], capture_output=True, text=True, timeout=60, check=False)
    found = json.loads(shown.stdout)
    assert (text.returncode, found["whole"]) in {(0, True), (65, False)}
    combo1 = next(each for each in found["originators"] if each["name"] in {"combo1", "router1"})
    return text.returncode, f"{text.stdout}{text.stderr}", combo1


def wait_until_archived(receiver: Receiver, *messages: bytes) -> None:
    wait_until(lambda: set(messages) <= set(archived(receiver.archive)), 60, receiver.status)
    wait_until(lambda: nothing_waits(receiver.folder / "state", "archive"), 60, receiver.status)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def run_of(messages: list[bytes]) -> bytes:
    ((run, _), *_) = identities(messages)
    return bytes.fromhex(run.decode())


def test_strangers_neither_fail_nor_excuse_a_router_with_a_key(tmp_path: Path) -> None:
    host_key, key, other = (generate_key(tmp_path / name) for name in ("host", "client", "other"))
    keys, ssh_port = tmp_path / "authorized_keys", free_port()
    keys.write_text("".join(each.with_suffix(".pub").read_text() for each in (key, other)))
    keys.chmod(0o600)
    flags = ("--ssh-listen", f"{LOOPBACK}:{ssh_port}", "--host-key", str(host_key), "--authorized-keys", str(keys))
    receiver = Receiver(tmp_path / "server", *flags)
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[{LOOPBACK}]:{ssh_port} {host_key.with_suffix('.pub').read_text()}")
    with receiver.running(), Sshd() as unused:
        router = Router(tmp_path, unused, receiver.port)
        router.write_configuration(
            server_port=ssh_port, private_key=str(key), known_hosts=str(known_hosts), username="relay"
        )
        router.audit_log.write_bytes(record(1))
        with router.start() as relay:
            run = run_of(receiver.wait_for_messages(1))
            lines = strangers_lines(run)
            send(receiver.port, lines)
            wait_until(lambda: relay.running and is_open(router.local_port), 60, lambda: relay.log)
            send(router.local_port, [line + b" by 7777" for line in lines])
            wait_until_archived(receiver, *(line + b" by 7777" for line in lines))
            code, shown, combo1 = verify(receiver.archive)
            assert (code, combo1["reporter"], combo1["faults"], combo1["claims"]) == (0, "verified", [], []), shown
            assert f"{combo1['ignored_reports']} reports of unverified senders under this name did not count" in shown
            send_by_ssh(ssh_port, other, (LOOPBACK, receiver.port), [line + b" by another key" for line in lines])
            wait_until_archived(receiver, *(line + b" by another key" for line in lines))
            code, shown, combo1 = verify(receiver.archive)
            assert (code, combo1["reporter"]) == (65, "contested"), shown  # its number and its heartbeat
            relay.stop()
    binding = f'[[receiver.originator]]\nname = ["combo1"]\nssh-keys = ["{fingerprint(key.with_suffix(".pub"))}"]\n'
    code, shown, combo1 = verify(receiver.archive, binding)
    assert (code, combo1["reporter"], combo1["faults"], combo1["claims"]) == (0, "verified", [], []), shown
    fleet = subprocess.run([*RELAY, "fleet", str(receiver.archive)], capture_output=True, text=True, check=False).stdout
    assert "ago, contested" in fleet


@pytest.mark.parametrize("chosen", [slice(2), slice(3, None)], ids=["reports", "a gap and numbers"])
def test_a_local_user_behind_sshd_fails_no_check_by_reports_or_by_numbers(tmp_path: Path, chosen: slice) -> None:
    """Both together do, because nothing distinguishes them from the router's."""
    receiver = Receiver(tmp_path / "server")
    with receiver.running(), Sshd([f"PermitOpen {LOOPBACK}:{receiver.port}"]) as sshd:
        router = Router(tmp_path, sshd, receiver.port)
        router.audit_log.write_bytes(record(1))
        with router.start() as relay:
            run = run_of(receiver.wait_for_messages(1))
            wait_until(lambda: relay.running and is_open(router.local_port), 60, lambda: relay.log)
            lines = strangers_lines(run)[chosen]
            send(router.local_port, lines)
            wait_until_archived(receiver, *lines)
            code, shown, combo1 = verify(receiver.archive)
            assert (code, combo1["reporter"]) == (0, "unverified"), shown
            assert "(unverified)" in shown
            assert combo1["claims"]
            relay.stop()


def test_behind_sshd_a_gap_counts_only_where_the_name_is_bound(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "server")
    whole = [opening(), *numbered(1, 4), heartbeat(2, relay=1, audit=4)]
    with receiver.running():
        send(receiver.port, whole)
        wait_until_archived(receiver, *whole)
        code, shown, found = verify(receiver.archive)
        assert (code, found["missing"]) == (65, 2)
        assert "2 events are missing (2 to 3); no gap accounts for them" in shown
        send(receiver.port, [gap(3, lost(2, 3))])
        wait_until_archived(receiver, gap(3, lost(2, 3)))
    code, shown, found = verify(receiver.archive)
    assert (code, found["missing"], found["reporter"]) == (65, 2, "unverified")
    assert "2 events are missing (2 to 3); only an unverified or contested gap names them" in shown
    for network, expected in ((f"{LOOPBACK}/32", 0), ("192.0.2.0/24", 65)):
        binding = f'[[receiver.originator]]\nname = ["router1"]\nnetworks = ["{network}"]\n'
        code, shown, found = verify(receiver.archive, binding)
        assert code == expected, shown
