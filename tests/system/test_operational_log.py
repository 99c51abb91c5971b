"""relay's own log: RFC 5424 on the local syslog socket, plain lines on stderr."""

import asyncio
import gc
import io
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.errors import RelayError
from relay.syslog.rfc5424 import parse
from relay.system import operational_log
from relay.values.text import fitted


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    log = logging.getLogger("relay")
    asyncio_log = logging.getLogger("asyncio")
    before = log.handlers[:], log.level, log.propagate
    of_asyncio = asyncio_log.handlers[:], asyncio_log.propagate
    yield log
    for handler in log.handlers:
        if handler not in before[0]:
            handler.close()
    log.handlers[:], log.level, log.propagate = before
    asyncio_log.handlers[:], asyncio_log.propagate = of_asyncio


@pytest.fixture
def syslog_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "log"))
        listening.settimeout(5)
        yield listening


def test_lines_go_to_the_local_syslog_socket_as_rfc_5424(
    tmp_path: Path, syslog_socket: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    stderr = io.StringIO()
    operational_log.configure(0, socket_path=str(tmp_path / "log"), stream=stderr)
    logging.getLogger("relay").log(operational_log.NOTICE, "ready")
    notice = parse(syslog_socket.recv(65536).rstrip(b"\n\0"))
    assert (notice.severity, notice.msg and notice.msg[-5:]) == (5, b"ready")
    logging.getLogger("relay.delivery").warning("lost %s: the cause", "server")
    message = parse(syslog_socket.recv(65536).rstrip(b"\n\0"))
    assert (message.facility, message.severity, message.app_name) == (3, 4, b"relay")
    assert message.procid == str(os.getpid()).encode()
    assert message.msg is not None
    assert message.msg.endswith(b"lost server: the cause")
    assert stderr.getvalue() == ""


def test_under_systemd_lines_go_to_stderr_with_their_priority(
    tmp_path: Path, syslog_socket: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    stderr = io.StringIO()
    operational_log.configure(0, socket_path=str(tmp_path / "log"), stream=stderr)
    logging.getLogger("relay.delivery").error("failed")
    logging.getLogger("relay").log(operational_log.NOTICE, "ready")
    assert stderr.getvalue() == "<3>failed\n<5>ready\n"
    syslog_socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        syslog_socket.recv(1)


@pytest.mark.parametrize(
    ("verbosity", "said"),
    [(0, ["w", "n"]), (1, ["w", "n", "i"]), (2, ["w", "n", "i", "d"]), (9, ["w", "n", "i", "d"])],
)
def test_each_verbosity_adds_its_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verbosity: int, said: list[str]
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    stderr = io.StringIO()
    operational_log.configure(verbosity, socket_path=str(tmp_path / "missing"), stream=stderr)
    log = logging.getLogger("relay.anything")
    levels = ((logging.WARNING, "w"), (operational_log.NOTICE, "n"), (logging.INFO, "i"), (logging.DEBUG, "d"))
    for level, text in levels:
        log.log(level, text)
    assert stderr.getvalue().splitlines() == [f"relay: {text}" for text in said]


def test_debug_of_the_root_logger_does_not_recurse(
    tmp_path: Path, syslog_socket: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler asks tzlocal, which logs at DEBUG: on the root logger that would recurse for ever."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    operational_log.configure(2, socket_path=str(tmp_path / "log"), stream=io.StringIO())
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    try:
        logging.getLogger("relay.x").debug("one")
    finally:
        root.setLevel(level)
    assert syslog_socket.recv(65536).rstrip(b"\n\0").endswith(b"one")


def test_a_command_in_a_line_works_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RelayError, "complete", staticmethod(lambda text: text.replace("`relay ", "`relay -c /x ")))
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    stderr = io.StringIO()
    operational_log.configure(0, socket_path=str(tmp_path / "none"), stream=stderr)
    logging.getLogger("relay.delivery").warning("lost %s; see `relay status`, 100 %%", "server")
    assert stderr.getvalue() == "relay: lost server; see `relay -c /x status`, 100 %\n"


def test_no_traceback_reaches_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of a task for which nothing waits, of a thread, of a finalizer, and one logged by a library."""

    class Finalized:
        def __del__(self) -> None:
            raise ZeroDivisionError("in a finalizer")

    def fail() -> None:
        fitted(None, 3)  # type: ignore[arg-type]

    async def fail_in_a_task() -> None:
        fail()

    async def forget_a_task() -> None:
        task = asyncio.create_task(fail_in_a_task())
        await asyncio.wait({task})

    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    for module, name in ((threading, "excepthook"), (sys, "unraisablehook"), (logging, "raiseExceptions")):
        monkeypatch.setattr(module, name, getattr(module, name))
    stderr = io.StringIO()
    operational_log.configure(0, socket_path=str(tmp_path / "none"), stream=stderr)
    operational_log.hook_bugs()
    asyncio.run(forget_a_task(), debug=False)
    gc.collect()
    thread = threading.Thread(target=fail, name="of a test")
    thread.start()
    thread.join()
    Finalized().__del__  # noqa: B018  it is deleted at once
    try:
        fail()
    except TypeError:
        logging.getLogger("relay.x").exception("failed %s", "here")
    bug = r"a bug at relay/values/text\.py:\d+: TypeError: [^\n;]+; "
    expected = (
        rf"relay: Task exception was never retrieved: {bug}please report this line\n"
        rf"relay: the thread of a test ended: {bug}restart relay, and report this line\n"
        r"relay: a bug: ZeroDivisionError: in a finalizer; please report this line\n"
        rf"relay: failed here: {bug}please report this line\n"
    )
    assert re.fullmatch(expected, stderr.getvalue()), stderr.getvalue()


def test_a_line_that_cannot_be_written_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    for module, name in ((threading, "excepthook"), (sys, "unraisablehook"), (logging, "raiseExceptions")):
        monkeypatch.setattr(module, name, getattr(module, name))
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    with open("/dev/full", "w", encoding="utf-8") as full:
        operational_log.configure(0, socket_path=str(tmp_path / "none"), stream=full)
        operational_log.hook_bugs()
        logging.getLogger("relay.x").error("one")
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert shown.getvalue() == ""
