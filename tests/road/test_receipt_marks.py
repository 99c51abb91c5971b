"""The marks of reception reach the archive's ledger, and a forged identity cannot displace a router's own event."""

import re
import socket
from pathlib import Path

from harness.openssh import SshClient, Sshd, fingerprint, generate_key
from harness.ports import LOOPBACK, free_port
from harness.receiver import Receiver, identities, ledgered
from harness.relay import Router, archived, nothing_waits
from harness.waiting import wait_until
from source.log_writing import record

MEBIBYTE = 1 << 20


def send(port: int, data: bytes) -> None:
    """Send it, and return when it is accepted, or passed on by a forwarding."""
    with socket.create_connection((LOOPBACK, port), timeout=60) as program:
        program.sendall(data)
        program.shutdown(socket.SHUT_WR)
        assert program.recv(1) == b""


def forged(message: bytes, number: int, text: bytes) -> bytes:
    """The message with another sequence number, and another text."""
    other = re.sub(rb' relaySeq="\d+"', b' relaySeq="%d"' % number, message).partition(b"] ")[0] + b"] " + text
    return b"%d %b" % (len(other), other)


def marks(receiver: Receiver, originator: str) -> list[tuple[str, ...]]:
    """The marks of each marked message in an originator's ledger; a key is "3", or "3-17" for several lines."""
    found: list[tuple[str, ...]] = []
    for extent in ledgered(receiver.archive, originator):
        for lines, of_lines in extent.get("marks", {}).items():
            first, _, last = lines.partition("-")
            found += [tuple(of_lines)] * (int(last or first) - int(first) + 1)
    return sorted(found)


def test_only_relays_own_channels_carry_its_identities(tmp_path: Path) -> None:
    """Another program sends by OpenSSH's `ssh -L`, and by the router's own port-forwarding, before the true event."""
    host_key, key, keys = (
        generate_key(tmp_path / "host"),
        generate_key(tmp_path / "client"),
        tmp_path / "authorized_keys",
    )
    ssh_port = free_port()
    flags = ("--ssh-listen", f"{LOOPBACK}:{ssh_port}", "--host-key", str(host_key), "--authorized-keys", str(keys))
    receiver = Receiver(tmp_path / "server", *flags)
    keys.write_text(f"restrict,port-forwarding {key.with_suffix('.pub').read_text()}")
    keys.chmod(0o600)
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[{LOOPBACK}]:{ssh_port} {host_key.with_suffix('.pub').read_text()}")
    destination = f"{LOOPBACK}:{receiver.port}"
    with (
        receiver.running(),
        SshClient(port=ssh_port, key=key, known_hosts=known_hosts, destination=destination) as client,
        Sshd() as unused,
    ):
        router = Router(tmp_path, unused, receiver.port)
        router.write_configuration(
            server_port=ssh_port, private_key=str(key), known_hosts=str(known_hosts), username="relay"
        )
        router.audit_log.write_bytes(record(1))
        with router.start() as relay:
            (first,) = receiver.wait_for_messages(1)
            ((run, number),) = identities([first])
            send(client.local_port, forged(first, number + 1, b"by ssh -L"))
            wait_until(lambda: relay.running and _is_open(router.local_port), 60, lambda: relay.log)
            send(router.local_port, forged(first, number + 1, b"by 7777"))
            receiver.wait_for_messages(3)
            with router.audit_log.open("ab") as log:
                log.write(record(2))
            messages = receiver.wait_for_messages(4)
            relay.stop()
        wait_until_it_is_committed(receiver)
    assert identities(messages).count((run, number + 1)) == 3
    assert any(b"audit(1709742862.002:2)" in message for message in messages)
    assert marks(receiver, "combo1") == [("forwarded",)] * 2
    assert {extent["by"] for extent in ledgered(receiver.archive, "combo1")} == {fingerprint(key.with_suffix(".pub"))}


def wait_until_it_is_committed(receiver: Receiver) -> None:
    """The ledger gets its lines after the log, so a receiver that is killed between them has described no messages."""
    wait_until(lambda: nothing_waits(receiver.folder / "state", "archive"), 60, receiver.status)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def test_a_cut_and_an_unterminated_message_are_marked_and_the_whole_one_is_stored_beside(tmp_path: Path) -> None:
    head = b'<14>1 2026-11-30T10:00:00Z web1 app - - [128T relayRun="0123456789abcdef" relaySeq="%d" type="log"] '
    receiver = Receiver(tmp_path / "server")
    with receiver.running():
        send(receiver.port, head % 1 + b"half a mess")
        send(receiver.port, head % 2 + b"x" * MEBIBYTE + b"\n" + head % 1 + b"half a message and the rest\n")
        wait_until(lambda: len(_of_web1(receiver)) == 3, 60, receiver.status)
        wait_until_it_is_committed(receiver)
    assert marks(receiver, "web1") == [("cut",), ("unterminated",)]
    assert max(map(len, _of_web1(receiver))) == MEBIBYTE
    assert {message[-12:] for message in _of_web1(receiver)} >= {b" half a mess", b"and the rest"}


def _of_web1(receiver: Receiver) -> list[bytes]:
    return [message for message in archived(receiver.archive) if b" web1 app " in message]
