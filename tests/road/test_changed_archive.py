"""Another program removes files of the real receiver's archive, while it runs and while it is stopped."""

import json
import shutil
import socket
import subprocess
from pathlib import Path

from harness.receiver import Receiver
from harness.relay import RELAY, archived
from harness.waiting import wait_until


def send(receiver: Receiver, *numbers: int) -> None:
    """Send messages of two switches, and wait until they are archived."""
    lines = [b"<13>1 - %b app - - - number %d" % (host, number) for number in numbers for host in (b"sw1", b"sw2")]
    with socket.create_connection(("127.0.0.1", receiver.port)) as sender:
        sender.sendall(b"".join(line + b"\n" for line in lines))
        sender.shutdown(socket.SHUT_WR)
        assert sender.recv(1) == b""
    wait_until(lambda: set(lines) <= set(archived(receiver.archive)), 60, receiver.status)


def verify(receiver: Receiver) -> tuple[int, dict[str, int]]:
    argv = [*RELAY, "archive", "verify", "--json", str(receiver.archive)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    counts: dict[str, int] = {}
    for originator in json.loads(done.stdout)["originators"]:
        for kind, count in originator["defects"].items():
            counts[kind] = counts.get(kind, 0) + count
    return done.returncode, counts


def test_a_change_is_logged_alarmed_recorded_and_found_by_verify(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "log-server")
    with receiver.running() as process:
        send(receiver, 1)
        assert verify(receiver) == (0, {})
        shutil.rmtree(receiver.archive / "sw1")
        send(receiver, 2)
        assert "another program changed it: the log is missing, the ledger is missing" in process.log
        wait_until(lambda: "archive-changed" in receiver.status(), 30, receiver.status)
        assert verify(receiver) == (65, {"changed": 1})
    for path in receiver.archive.glob("sw2/*.l*"):
        path.unlink()
    with receiver.running() as process:
        send(receiver, 3)
        assert "sw2/" in process.log
    assert verify(receiver) == (65, {"changed": 2})
