"""The sink of all measurements, by its counts; and the loader, by the answers that a receiver must give."""

import socket
import subprocess
from pathlib import Path

import pytest
from harness.ports import LOOPBACK
from harness.waiting import wait_until

from scripts.yardstick.far_end import Sink, compiled

RECORD = b"<110>1 - h a - - - type=LOGIN msg=audit(1709742862.344:%d): pid=1"
TWO_RECORDS = RECORD % 7 + b"\ntype=SYSCALL msg=audit(1709742862.344:7): arch=c"


def send(port: int, data: bytes) -> bytes:
    """Send it, half-close, and read until the sink closes."""
    with socket.create_connection((LOOPBACK, port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while more := connection.recv(65536):
            answer += more
        return answer


@pytest.mark.parametrize("framing", ["counted", "trailed", "relp"])
def test_every_framing_is_counted_and_kept(tmp_path: Path, framing: str) -> None:
    messages = [RECORD % 5, RECORD % 6]
    data = {
        "counted": b"".join(b"%d %b" % (len(message), message) for message in messages),
        "trailed": b"".join(message + b"\n" for message in messages),
        "relp": b"1 open 3 a=b\n"
        + b"".join(b"%d syslog %d %b\n" % (nth, len(message), message) for nth, message in enumerate(messages, 2))
        + b"4 close 0\n",
    }[framing]
    with Sink(tmp_path, keep=True) as sink:
        answer = send(sink.port, data)
        counted = sink.statistics()
    assert (counted.messages, counted.records, counted.serials, counted.connections) == (2, 2, 11, 1)
    assert (counted.malformed, counted.truncated) == (0, 0)
    assert sink.kept_file.read_bytes() == b"".join(message + b"\n" for message in messages)
    assert answer.endswith(b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 0\n") is (framing == "relp")


def test_a_message_of_two_records_counts_twice_and_is_traced_once(tmp_path: Path) -> None:
    with Sink(tmp_path, trace=True) as sink:
        send(sink.port, b"%d %b5 <1>1 " % (len(TWO_RECORDS), TWO_RECORDS))
        counted, (first, second) = sink.statistics(), sink.arrivals()
    assert (counted.messages, counted.records, counted.serials) == (2, 2, 14)
    assert (first.serial, first.records, second.serial, second.records) == (7, 2, 0, 0)
    assert first.at == pytest.approx(counted.last, abs=0.01)


def test_cut_and_malformed_frames_are_counted(tmp_path: Path) -> None:
    with Sink(tmp_path) as sink:
        send(sink.port, b"100 <110>1 - h")
        send(sink.port, b"hello\n")
        counted = sink.statistics()
    assert (counted.messages, counted.truncated, counted.malformed) == (0, 1, 1)


def test_counts_continue_after_a_restart(tmp_path: Path) -> None:
    sink = Sink(tmp_path)
    for _ in range(2):
        with sink:
            send(sink.port, RECORD % 1 + b"\n")
    assert sink.statistics().records == 2
    assert sink.usage().memory > 0


@pytest.mark.parametrize("protocol", ["stream", "relp"])
def test_the_loader_is_done_when_every_sender_is_done(tmp_path: Path, protocol: str) -> None:
    """30,000 frames a sender: three windows of RELP."""
    frames = {
        "stream": b"".join(b"%d %b" % (len(RECORD % 1), RECORD % 1) for _ in range(30_000)),
        "relp": b"1 open 3 a=b\n"
        + b"".join(b"%d syslog %d %b\n" % (nth, len(RECORD % 1), RECORD % 1) for nth in range(2, 30_002)),
    }[protocol]
    (tmp_path / "frames").write_bytes(frames)
    with Sink(tmp_path) as sink:
        argv = [str(compiled("loader")), str(sink.port), protocol, *[str(tmp_path / "frames")] * 4]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
        wait_until(lambda: sink.records >= 120_000, 60, "all is counted")
        counted = sink.statistics()
    sent, finished = map(float, done.stdout.split())
    assert 0 < sent <= finished
    assert (counted.records, counted.connections, counted.malformed) == (120_000, 4, 0)


def test_the_loader_reports_a_receiver_that_closes_early(tmp_path: Path) -> None:
    (tmp_path / "frames").write_bytes(b"hello\n")
    with Sink(tmp_path) as sink:
        argv = [str(compiled("loader")), str(sink.port), "relp", str(tmp_path / "frames")]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "a frame in the file" in done.stderr
