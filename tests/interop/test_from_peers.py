"""Every program that speaks one of its protocols into `relay receive`; every octet of what is archived is compared.

Where an octet changes on the way, or never comes, who did that stands beside it: always the sender. What comes is kept.
"""

import logging
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from logging.handlers import SysLogHandler
from pathlib import Path
from typing import Literal

import pytest
from harness.auditd import AudispRemote
from harness.certificates import ROUTER, SERVER, Authority, Shown
from harness.debian import SYSLOG_NG, fetch
from harness.ports import LOOPBACK, free_port
from harness.receiver import Receiver, ledgered
from harness.relay import archived
from harness.rsyslog import RsyslogForwarder
from harness.syslog_ng import SyslogNgForwarder, syslog_ng_version
from harness.waiting import wait_until
from interop.messages import (
    HEAD,
    HUGE,
    LARGE,
    MESSAGES,
    NO_UTF_8,
    SPACED,
    WITH_LF,
    WITH_NUL,
    foreign,
    with_changes,
)
from rfc5424logging import Rfc5424SysLogHandler

from relay.syslog.framing import octet_counted
from relay.syslog.rfc5424 import parse

NUL_AS_TEXT = HEAD + b"a#000b"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    instance = Receiver(tmp_path / "server")
    with instance.running() as process:
        yield instance
        process.stop()


def send(port: int, messages: Sequence[bytes]) -> None:
    with socket.create_connection((LOOPBACK, port)) as program:
        program.sendall(b"".join(map(octet_counted, messages)))


def kept(receiver: Receiver, count: int) -> list[bytes]:
    """The archive's messages except the receiver's own events, once there are so many; unordered."""
    wait_until(lambda: len(foreign(archived(receiver.archive))) >= count, 60, receiver.status)
    return sorted(foreign(archived(receiver.archive)))


@pytest.mark.parametrize("protocol", ["syslog", "relp"])
def test_rsyslog(receiver: Receiver, protocol: Literal["syslog", "relp"]) -> None:
    """It keeps no NUL in any message, whatever its configuration."""
    with RsyslogForwarder(receiver.port, protocol) as rsyslog:
        send(rsyslog.port, MESSAGES)
        assert kept(receiver, len(MESSAGES)) == sorted(with_changes({WITH_NUL: NUL_AS_TEXT}))


def test_rsyslog_by_lines(receiver: Receiver) -> None:
    """Lines without a priority too, as templates without it send them; only a message of two lines becomes two."""
    messages = [message for message in MESSAGES if message != WITH_LF]
    with RsyslogForwarder(receiver.port, "lines") as rsyslog:
        send(rsyslog.port, messages)
        expected = [NUL_AS_TEXT if message == WITH_NUL else message for message in messages]
        assert kept(receiver, len(expected)) == sorted(expected)


def by_syslog_ng(message: bytes, driver: Literal["syslog", "network"]) -> bytes:
    """Its form of a message: parsed and written again in its own way, with its time where there is none."""
    if not message.startswith(b"<"):
        if syslog_ng_version(fetch(SYSLOG_NG)) not in {"3.38", "4.3"}:
            message = message.removeprefix(b"7 ")  # later versions take it for the number that some routers begin with
        app, _, text = message.partition(b" ")
        line = b"%b - - - %b\n" % (app, text) if driver == "syslog" else message
        return b"<13>NOW 127.0.0.1 " + line
    if driver == "syslog":
        return re.sub(rb"^(\S+ \S+)\.003[0-9]*Z ", rb"\1.003+00:00 ", message) + b"\n"
    read = parse(message)
    priority, app, text = read.facility * 8 + read.severity, read.app_name or b"", read.msg or b""
    return b"<%d>Oct 11 22:14:15.003 router %b: %b" % (priority, app + (b"[12]" if read.procid else b""), text)


def without_the_time_of_now(messages: list[bytes]) -> list[bytes]:
    now = rb"<13>(?:1 \S+|[A-Z][a-z]{2} [ 0-9]{2} \S+) 127\.0\.0\.1 "
    return sorted(re.sub(now, b"<13>NOW 127.0.0.1 ", message) for message in messages)


@pytest.mark.parametrize("driver", ["syslog", "network"])
def test_syslog_ng(receiver: Receiver, driver: Literal["syslog", "network"]) -> None:
    """Its syslog() ends each counted message with an LF."""
    messages = [message for message in MESSAGES if driver == "syslog" or message != WITH_LF]
    with SyslogNgForwarder(receiver.port, driver) as syslog_ng:
        send(syslog_ng.port, messages)
        archived_here = without_the_time_of_now(kept(receiver, len(messages)))
        assert archived_here == sorted(by_syslog_ng(message, driver) for message in messages)


@pytest.mark.parametrize("name", ["rsyslog", "syslog-ng"])
def test_a_line_feed_in_a_line_makes_two_messages_of_one(receiver: Receiver, name: str) -> None:
    """Both send it unchanged; other collectors read it in the same way, and nothing after it is lost."""
    forwarder = (
        RsyslogForwarder(receiver.port, "lines") if name == "rsyslog" else SyslogNgForwarder(receiver.port, "network")
    )
    with forwarder:
        send(forwarder.port, [SPACED, WITH_LF, SPACED])
        last_words = sorted(message.rpartition(b" ")[2] for message in kept(receiver, 4))
        assert last_words == [b"", b"", b"line", b"line"]  # twice SPACED, and both lines of WITH_LF


# --- By TLS, with certificates on both sides ---


@pytest.fixture
def own(authority: Authority) -> Shown:
    return Shown(authority.pair(ROUTER), authority.certificate)


@pytest.fixture
def tls_port(tmp_path: Path, authority: Authority) -> Iterator[int]:
    pair, port = authority.pair(SERVER, LOOPBACK), free_port()
    flags = {"--tls-listen": f"{LOOPBACK}:{port}", "--certificate": pair.certificate, "--private-key": pair.key}
    flags["--ca"] = authority.certificate
    instance = Receiver(tmp_path / "server", *(str(word) for flag in flags.items() for word in flag))
    with instance.running() as process:
        yield port
        process.stop()


@pytest.mark.parametrize("protocol", ["syslog", "relp"])
@pytest.mark.parametrize("driver", ["ossl", "gtls"])
def test_rsyslog_by_tls(
    tmp_path: Path, tls_port: int, own: Shown, protocol: Literal["syslog", "relp"], driver: Literal["ossl", "gtls"]
) -> None:
    with RsyslogForwarder(tls_port, protocol, tls=own._replace(driver=driver)) as rsyslog:
        send(rsyslog.port, MESSAGES)
        expected = sorted(with_changes({WITH_NUL: NUL_AS_TEXT}))
        archive = tmp_path / "server" / "archive"
        wait_until(lambda: len(foreign(archived(archive))) >= len(expected), 60, lambda: rsyslog.log)
        assert sorted(foreign(archived(archive))) == expected
        (sender,) = {(extent["from"], extent["by"], extent["via"]) for extent in ledgered(archive, "router")}
        via = f"tls://{LOOPBACK}:{tls_port} {protocol}"
        assert sender == (LOOPBACK, f"{own.pair.fingerprint} {ROUTER}", via)


def test_syslog_ng_by_tls(tmp_path: Path, tls_port: int, own: Shown) -> None:
    with SyslogNgForwarder(tls_port, "syslog", tls=own) as syslog_ng:
        send(syslog_ng.port, MESSAGES)
        archive = tmp_path / "server" / "archive"
        wait_until(lambda: len(foreign(archived(archive))) >= len(MESSAGES), 60, lambda: syslog_ng.log)
        archived_here = without_the_time_of_now(foreign(archived(archive)))
        assert archived_here == sorted(by_syslog_ng(message, "syslog") for message in MESSAGES)


# --- logger(1) ---

LOGGER_HEAD = b"<134>1 - - app - - - "


def logger(port: int, *options: str, text: bytes) -> None:
    path = shutil.which("logger")
    assert path is not None, "logger (Debian package bsdutils) is needed"
    argv = [path, "-n", LOOPBACK, "-P", str(port), "-T", "-t", "app", "-p", "local0.info", "--size", "70000", *options]
    subprocess.run(argv, input=text, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("framing", ["octet-counting", "lines"])
def test_logger(receiver: Receiver, framing: str) -> None:
    """It makes a message of every line of its input, and ends it at a NUL."""
    texts = [b"x", LARGE, HUGE, WITH_LF, NO_UTF_8, SPACED, WITH_NUL]
    options = ["--octet-count"] if framing == "octet-counting" else []
    logger(receiver.port, "--rfc5424=notime,nohost", *options, text=b"\n".join(texts))
    sent = [line.partition(b"\0")[0] for text in texts for line in text.split(b"\n")]
    assert kept(receiver, len(sent)) == sorted(LOGGER_HEAD + line for line in sent)


def test_logger_with_a_line_feed_in_a_counted_message(receiver: Receiver) -> None:
    logger(receiver.port, "--rfc5424=notime,nohost", "--octet-count", "line\nline", text=b"")
    assert kept(receiver, 1) == [LOGGER_HEAD + b"line\nline"]


@pytest.mark.parametrize(
    ("format_", "head"),
    [
        ("--rfc5424", rb'<134>1 \S+ \S+ app - - \[timeQuality tzKnown="1" isSynced="[01]"[^]]*\] '),
        ("--rfc3164", rb"<134>[A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8} \S+ app: "),
    ],
)
def test_loggers_own_headers(receiver: Receiver, format_: str, head: bytes) -> None:
    logger(receiver.port, format_, text=b"one\ntwo\n")
    assert [re.sub(head, b"", message) for message in kept(receiver, 2)] == [b"one", b"two"]


# --- Python's logging ---


def logged(text: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, __file__, 1, text, None, None)


COUNTED, LINES = 1, 2  # the library's own numbers
TEXTS = ["x", "a" * 8192, "b" * 65_536, "a\0b", "Zürich \x1d\x01\r\t\x7f."]


@pytest.mark.parametrize("framing", [COUNTED, LINES])
def test_rfc5424_logging_handler(receiver: Receiver, framing: int) -> None:
    handler = Rfc5424SysLogHandler((LOOPBACK, receiver.port), socktype=socket.SOCK_STREAM, framing=framing)
    records = [logged(text) for text in TEXTS]
    for record in records:
        handler.emit(record)
    handler.close()
    assert kept(receiver, len(records)) == sorted(map(handler.build_msg, records))


def test_pythons_own_handler(receiver: Receiver) -> None:
    """It ends each message with a NUL, so a NUL inside a message ends it as well, as a line feed does.

    Each is kept while the connection still stands.
    """
    handler = SysLogHandler((LOOPBACK, receiver.port), socktype=socket.SOCK_STREAM)
    for text in [*TEXTS, "line\nline"]:
        handler.emit(logged(text))
    expected = [*(f"<14>{text}" for text in TEXTS if "\0" not in text), "<14>a", "b", "<14>line", "line"]
    assert kept(receiver, len(expected)) == sorted(text.encode() for text in expected)
    handler.close()


def test_pythons_own_handler_with_a_line_feed_as_its_trailer(receiver: Receiver) -> None:
    """Then any message may contain a NUL."""
    handler = SysLogHandler((LOOPBACK, receiver.port), socktype=socket.SOCK_STREAM)
    handler.append_nul = False
    handler.setFormatter(logging.Formatter("%(message)s\n"))
    for text in TEXTS:
        handler.emit(logged(text))
    handler.close()
    assert kept(receiver, len(TEXTS)) == sorted(f"<14>{text}".encode() for text in TEXTS)


# --- audisp-remote ---

STAMP = b"type=USER_LOGIN msg=audit(1709742929.678:%d): "
LONGEST = 8969


def sized(serial: int, size: int) -> bytes:
    stamp = STAMP % serial
    return stamp + b"a" * (size - len(stamp))


def test_audisp_remote(receiver: Receiver) -> None:
    """It drops messages of one octet, and truncates those longer than 8,969.

    The kernel writes no NUL into a record; given one, audisp-remote sends nothing more.
    """
    whole = [
        STAMP % 1 + b"\xff\xfe\x80 and \x1d\x01\r\t\x7f.",
        b"node=router " + STAMP % 2 + b" two  spaces ",
        sized(3, 8192),
        sized(4, LONGEST),
        b"no record",
    ]
    cut = sized(5, 65_536)
    with AudispRemote(receiver.port) as sender:
        sender.feed([whole[0], b"x", cut, *whole[1:]])
        records = [message.partition(b"] ")[2] for message in kept(receiver, len(whole) + 1)]
    assert sorted(records) == sorted([*whole, cut[:LONGEST]])
