"""What logger(1) and Python's SysLogHandler send is read: host, program, process, time."""

import contextlib
import logging
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from logging.handlers import SysLogHandler
from pathlib import Path

import pytest
from harness.ports import LOOPBACK

from relay.syslog.lenient.reader import read
from relay.syslog.lenient.reading import FormMark, Reading
from relay.system.time_zone import zone_of

HOST = socket.gethostname()
LOCAL = zone_of("local", "zone")


@pytest.fixture
def collector() -> Iterator[socket.socket]:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as receiving:
        receiving.bind((LOOPBACK, 0))
        receiving.settimeout(30)
        yield receiving


@pytest.fixture
def dev_log(tmp_path: Path) -> Iterator[socket.socket]:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiving:
        receiving.bind(str(tmp_path / "log"))
        receiving.settimeout(30)
        yield receiving


def received(receiving: socket.socket) -> tuple[bytes, Reading]:
    message = receiving.recv(65536)
    now = int(time.time() * 1_000_000)
    reading = read(message, now, LOCAL)
    assert reading.time is None or abs(reading.time - now) < 60_000_000
    return message, reading


def logger(*options: str, text: str = "some text: here") -> None:
    path = shutil.which("logger")
    assert path is not None, "logger (Debian package bsdutils) is needed"
    subprocess.run([path, "-p", "local0.err", *options, text], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("options", "host", "app", "marks"),
    [
        (["--rfc3164"], HOST, "app", "inferred"),
        (["--rfc3164", "-i"], HOST, "app", "inferred"),
        (["--rfc5424"], HOST, "app", ""),
        (["--rfc5424", "-i"], HOST, "app", ""),
        (["--rfc5424=notq"], HOST, "app", ""),
        (["--rfc5424=nohost"], None, "app", ""),
        (["--rfc5424=notime,nohost"], None, "app", "no-time"),
        (["--rfc5424", "--msgid", "M1", "--sd-id", "a@1", "--sd-param", 'x="1"'], HOST, "app", ""),
    ],
)
def test_logger_over_udp(collector: socket.socket, options: list[str], host: str | None, app: str, marks: str) -> None:
    logger("-n", LOOPBACK, "-P", str(collector.getsockname()[1]), "-d", "-t", "app", *options)
    message, reading = received(collector)
    # RFC 3164 has the host's short name, which logger cuts at the first dot.
    expected = None if host is None else host.partition(".")[0] if "--rfc3164" in options else host
    assert reading.host == (None if expected is None else expected.encode()), message
    assert (reading.priority, reading.app) == (131, app.encode())
    assert (reading.procid is not None) == ("-i" in options)
    assert message[reading.msg_at :].rstrip(b"\0\n") == b"some text: here"
    assert " ".join(reading.marks.labels) == marks
    if "--msgid" in options:
        assert (reading.msgid, reading.structured_data[-1].params) == (b"M1", ((b"x", b"1"),))


@pytest.mark.parametrize("options", [[], ["-i"], ["--id=77"]])
def test_logger_on_a_local_socket(dev_log: socket.socket, options: list[str]) -> None:
    logger("-u", dev_log.getsockname(), "-t", "app", *options)
    message, reading = received(dev_log)
    assert (reading.host, reading.app) == (None, b"app"), message
    assert (reading.procid is not None) == bool(options)
    assert message[reading.msg_at :].rstrip(b"\0\n") == b"some text: here"


def test_a_tag_of_two_words_is_text(collector: socket.socket) -> None:
    """The octets do not say whether the first word is a host, unless it is written like one."""
    logger("-n", LOOPBACK, "-P", str(collector.getsockname()[1]), "-d", "-t", "two words", "--rfc3164")
    message, reading = received(collector)
    assert reading.time is not None
    assert reading.app is None
    assert message.endswith(b"two words: some text: here")


@pytest.mark.parametrize("ident", ["", "app: ", "app[7]: "])
def test_pythons_handler(collector: socket.socket, dev_log: socket.socket, ident: str) -> None:
    for receiving in (collector, dev_log):
        handler = SysLogHandler(receiving.getsockname())
        handler.ident = ident
        handler.emit(logging.LogRecord("test", logging.ERROR, __file__, 1, "some text: here", None, None))
        handler.close()
        message, reading = received(receiving)
        assert (reading.priority, reading.host, reading.time) == (11, None, None), message
        assert (reading.app, reading.procid) == (b"app" if ident else None, b"7" if "7" in ident else None)
        assert message[reading.msg_at :].rstrip(b"\0") == b"some text: here"
        assert reading.marks == FormMark.NO_TIME
