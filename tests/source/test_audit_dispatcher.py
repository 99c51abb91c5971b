"""The source `audit-dispatcher` with its real plugin, and with the real auditd on the other side."""

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.auditd import Auditd
from harness.auditd_peer import encode
from harness.debian import AUDITD, fetch
from harness.waiting import until
from source.log_writing import Taken, record, records, serial_of, text_of

from relay.errors import CannotCreateError, StorageError
from relay.events.audit.mapping import AuditMapping
from relay.source.auditd.audit_dispatcher import AuditDispatcher, Plugin
from relay.syslog.auditd_remote import MESSAGE
from relay.values.event import Batch

DISPATCH = [sys.executable, "-m", "relay", "dispatch"]
SMALL_PLUGIN = "import sys, relay.program.dispatch as d; d.DispatcherPlugin(sys.argv[1], ceiling=20_000).run()"


def dispatcher(path: Path, plugin: Plugin = "relay") -> AuditDispatcher:
    return AuditDispatcher("live", plugin, str(path), AuditMapping(hostname="router1", router="router1"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@contextlib.contextmanager
def plugin(path: Path, argv: list[str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([*(argv or DISPATCH), str(path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stderr is not None
    try:
        with child.stderr:
            yield child
    finally:
        child.kill()
        child.wait()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()


def feed(child: "subprocess.Popen[bytes]", data: bytes) -> None:
    assert child.stdin is not None
    child.stdin.write(data)
    child.stdin.flush()


def end(child: "subprocess.Popen[bytes]") -> int:
    """Close stdin, as auditd does when it stops, and wait."""
    assert child.stdin is not None
    child.stdin.close()
    return child.wait(30)


@contextlib.asynccontextmanager
async def running(source: AuditDispatcher, taken: Taken) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(source.run(taken.submit, None, drain=False))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


def serials(batch: Batch) -> list[int]:
    return [serial_of(event) for event in batch.events]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def play(work: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(work(), 100))


# --- relay's plugin ---


def test_records_of_auditd_come_at_once_and_the_plugin_ends_with_auditd(path: Path) -> None:
    async def work() -> None:
        taken, source = Taken(), dispatcher(path)
        async with running(source, taken):
            with plugin(path) as child:
                for serial in range(1, 20):
                    feed(child, record(serial))
                    await until(lambda: taken.serials[-1:] == [serial])  # noqa: B023  it is awaited at once
                assert source.last_error == ""
                assert await asyncio.to_thread(end, child) == 0
            await until(lambda: source.last_error)
        assert taken.serials == list(range(1, 20))

    play(work)


def test_its_socket_is_its_owners_alone(path: Path) -> None:
    async def work() -> None:
        async with running(dispatcher(path), Taken()):
            await until(path.exists)
            assert mode(path) == 0o600
        await until(lambda: not path.exists())

    play(work)


def test_a_socket_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CannotCreateError):
        asyncio.run(dispatcher(tmp_path / "no folder" / "audit").run(Taken().submit, None, drain=False))


def test_a_drain_opens_no_socket(path: Path) -> None:
    asyncio.run(dispatcher(path).run(Taken().submit, None, drain=True))
    assert not path.exists()


def test_an_end_of_event_completes_it_and_is_not_kept(path: Path) -> None:
    """The kernel's events all end with one; it comes behind PROCTITLE, too, when the event has left already."""
    lines = [
        record(1, kind="SYSCALL", at_ms=1),
        record(2, kind="SYSCALL", at_ms=2),
        record(1, kind="EOE", at_ms=1, body=""),
        record(2, kind="PROCTITLE", at_ms=2),
        record(2, kind="EOE", at_ms=2, body=""),
        record(3, kind="EOE", at_ms=3, body=""),
    ]

    async def work() -> None:
        taken, source = Taken(), dispatcher(path)
        async with running(source, taken):
            with plugin(path) as child:
                feed(child, b"".join(lines))
                assert await asyncio.to_thread(end, child) == 0
        assert taken.serials == [1, 2]
        messages = b"".join(map(text_of, taken.events))
        assert b"EOE" not in messages
        assert b"late" not in messages
        assert source.malformed == 0

    play(work)


def test_an_event_that_nothing_ends_leaves_after_its_silence(path: Path) -> None:
    async def work() -> None:
        taken, source = Taken(), dispatcher(path)
        async with running(source, taken):
            with plugin(path) as child:
                feed(child, record(1, kind="SYSCALL"))
                await until(lambda: source.open_events == 1)
                assert taken.events == []
                await until(lambda: taken.serials == [1])

    play(work)


def test_a_malformed_line_is_forwarded_marked_and_counted(path: Path) -> None:
    async def work() -> None:
        taken, source = Taken(), dispatcher(path)
        long = b"x" * 1_500_000
        async with running(source, taken):
            with plugin(path) as child:
                feed(child, b"\0\xff no record\n" + record(1) + long + b"\n" + record(2))
                assert await asyncio.to_thread(end, child) == 0
        marked = [text_of(event).split(b' malformed="1"] ', 1) for event in taken.events]
        assert marked[0][1] == b"\0\xff no record"
        assert b"".join(message[1] for message in marked[2:-1]) == long
        assert source.malformed == len(taken.events) - 2

    play(work)


def test_only_durable_records_are_accepted(path: Path) -> None:
    """Relay ends before it could store what it was given: all of it comes again."""

    async def work() -> None:
        with plugin(path) as child:
            first = Taken()
            first.hold = True
            async with running(dispatcher(path), first):
                feed(child, records(1, 500))
                await until(lambda: first.held)
            second = Taken()
            async with running(dispatcher(path), second):
                assert await asyncio.to_thread(end, child) == 0
            assert second.serials == list(range(1, 501))

    play(work)


def test_records_of_an_open_event_are_not_accepted_before_it_is_durable(path: Path) -> None:
    async def work() -> None:
        with plugin(path) as child:
            first = Taken()
            async with running(dispatcher(path), first):
                feed(child, record(1) + record(2, kind="SYSCALL", at_ms=5) + record(3, at_ms=6))
                await until(lambda: first.serials == [1, 3])
            feed(child, record(2, kind="PROCTITLE", at_ms=5))  # now, lest it come after 2 s of silence
            second = Taken()
            async with running(dispatcher(path), second):
                assert await asyncio.to_thread(end, child) == 0
            assert second.serials == [3, 2]
            assert b"SYSCALL" in text_of(second.events[1])

    play(work)


def test_stopping_relay_again_and_again_loses_nothing(path: Path) -> None:
    choose = random.Random(5)
    chunk, rounds = 500, 12

    async def work() -> None:
        seen: set[int] = set()
        with plugin(path) as child:
            for first in range(1, chunk * rounds, chunk):
                feeding = asyncio.create_task(asyncio.to_thread(feed, child, records(first, first + chunk - 1)))
                taken = Taken()
                async with running(dispatcher(path), taken):
                    least = choose.randrange(1, 300)
                    await until(lambda: len(taken.events) > least)  # noqa: B023  it is awaited at once
                    taken.hold = True  # what comes now is never durable
                    await feeding
                seen |= {serial for batch in taken.batches[: -len(taken.held) or None] for serial in serials(batch)}
            taken = Taken()
            async with running(dispatcher(path), taken):
                assert await asyncio.to_thread(end, child) == 0
            seen |= set(taken.serials)
        assert seen == set(range(1, chunk * rounds + 1))

    play(work)


def test_while_relay_does_not_run_memory_has_a_ceiling_and_auditd_waits(path: Path) -> None:
    async def work() -> None:
        with plugin(path, [sys.executable, "-c", SMALL_PLUGIN]) as child:
            assert child.stdin is not None
            feeding = asyncio.create_task(asyncio.to_thread(feed, child, records(1, 20_000)))
            done, _ = await asyncio.wait({feeding}, timeout=1)
            assert not done
            taken = Taken()
            async with running(dispatcher(path), taken):
                await feeding
                assert await asyncio.to_thread(end, child) == 0
            assert taken.serials == list(range(1, 20_001))

    play(work)


def test_a_terminated_plugin_hands_over_its_remaining_records(path: Path) -> None:
    async def work() -> None:
        with plugin(path) as child:
            feed(child, records(1, 300))
            taken = Taken()
            async with running(dispatcher(path), taken):
                await until(lambda: taken.events)
                feed(child, records(301, 600))
                for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGQUIT):
                    child.send_signal(number)
                child.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(child.wait, 30) == 0
            assert taken.serials == list(range(1, 601))

    play(work)


def test_without_relay_it_says_how_many_were_not_handed_over(path: Path) -> None:
    with plugin(path) as child:
        feed(child, records(1, 7))
        assert end(child) == 75
        assert child.stderr is not None
        assert "7 records could not be handed over" in child.stderr.read().decode()


def test_a_spool_that_fails_ends_the_source(path: Path) -> None:
    async def work() -> None:
        taken = Taken()
        taken.hold = True
        async with running(dispatcher(path), taken) as task:
            with plugin(path) as child:
                feed(child, record(1))
                await until(lambda: taken.held)
                taken.held[0].set_exception(StorageError("spool", "failed"))
                await asyncio.wait({task}, timeout=20)
                assert isinstance(task.exception(), StorageError)

    play(work)


def test_one_plugin_too_many_is_rejected(path: Path) -> None:
    async def work() -> None:
        source = dispatcher(path)
        async with running(source, Taken()):
            await until(path.exists)
            pairs = [await asyncio.open_unix_connection(str(path)) for _ in range(9)]
            assert await pairs[-1][0].read() == b""
            assert len(source.streams) == 8
            for _, writer in pairs:
                writer.close()

    play(work)


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("way", ["finished", "cancelled"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_plugin_that_connects_while_the_source_ends_is_disconnected(path: Path, way: str, turns: int) -> None:
    """A connection that stays open would swallow the plugin's records without ever answering."""

    async def work() -> None:
        source = dispatcher(path)
        task = asyncio.create_task(source.run(Taken().submit, None, drain=False))
        await until(lambda: path.exists() and source.last_error)
        with socket.socket(socket.AF_UNIX) as plugin:
            plugin.setblocking(False)
            plugin.connect(str(path))
            for _ in range(turns):
                await asyncio.sleep(0)
            _ = source.finish() if way == "finished" else task.cancel()
            await asyncio.wait({task})
            with contextlib.suppress(ConnectionResetError):
                for _ in range(10):  # callbacks that were scheduled before
                    await asyncio.sleep(0)
                gc.collect()  # asyncio forgets a connection that it accepts while its server closes, hence the warning
                assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(plugin, 1), 20) == b""

    play(work)


# --- auditd's own plugin, and auditd itself ---

DEPLOYED = Path(__file__).parents[2] / "deploy" / "relay-auditd-plugin.conf"
CONFIGURATION = "active = yes\ndirection = out\npath = {}\ntype = {}\nargs = {}\nformat = {}\n"


def wrapped(script: Path, command: str) -> Path:
    """Auditd runs a plugin by its path and without an environment, so a script replaces the program."""
    script.write_text(f'#!/bin/sh\n{command} "$@" 2>{script}.log\n')
    script.chmod(0o750)
    return script


def of_relay(path: Path, form: str, folder: Path) -> dict[str, str]:
    """As deployed."""
    script = wrapped(folder / "relay", f"PYTHONPATH={os.getcwd()} exec {sys.executable} -m relay")
    text = DEPLOYED.read_text().replace("/usr/local/bin/relay", str(script)).replace("/run/relay/audit", str(path))
    return {"relay": text.replace("format = string", f"format = {form}")}


def of_auditd(path: Path, form: str, folder: Path) -> dict[str, str]:
    """Up to version 3 it is a part of auditd. From version 4 on it is a program, which passes on lines alone."""
    root = fetch(AUDITD)
    if not (root.path / "usr/sbin/audisp-af_unix").exists():
        return {"af_unix": CONFIGURATION.format("builtin_af_unix", "builtin", f"0600 {path}", form)}
    libraries = root.environment()["LD_LIBRARY_PATH"]
    program = root.file("usr/sbin/audisp-af_unix")
    script = wrapped(folder / "audisp-af_unix", f"LD_LIBRARY_PATH={libraries} exec {program}")
    return {"af_unix": CONFIGURATION.format(script, "always", f"0600 {path}", "string")}


SENT = [
    b"type=USER_LOGIN msg=audit(1709742862.001:101): pid=1 uid=0 msg='op=login acct=\"root\" res=success' ",
    b'type=SYSCALL msg=audit(1709742862.002:102): arch=c000003e syscall=2 success=yes comm="x" exe="/bin/x"',
    b"type=PROCTITLE msg=audit(1709742862.002:102): proctitle=6C73002D6C",
    b"type=EOE msg=audit(1709742862.002:102): ",
    b"node=far type=USER_LOGIN msg=audit(1709742862.003:103): res=failed",
    b"type=USER_LOGIN msg=audit(1709742862.004:104): " + b"x" * 8900,
]


def send(auditd: Auditd) -> None:
    """Send the records as another auditd's audisp-remote would; an end of event is never answered."""
    with auditd.connect() as connection:
        connection.settimeout(20)
        for sequence, sent in enumerate(SENT, 1):
            connection.sendall(encode(MESSAGE, sequence, sent))
            if not sent.startswith(b"type=EOE"):
                answer = connection.recv(16, socket.MSG_WAITALL)
                assert struct.unpack("<IBBIHI", answer)[-1] == sequence


@pytest.mark.parametrize("form", ["string", "binary"])
@pytest.mark.parametrize(("kind", "configure"), [("relay", of_relay), ("af_unix", of_auditd)])
def test_the_real_auditd_gives_its_events(
    path: Path, form: str, kind: Plugin, configure: Callable[[Path, str, Path], dict[str, str]]
) -> None:
    async def work() -> None:
        taken, source = Taken(), dispatcher(path, kind)
        plugins = configure(path, form, path.parent)
        async with running(source, taken):
            with Auditd(plugins=plugins) as auditd:
                await until(lambda: source.streams)
                await asyncio.to_thread(send, auditd)
                await until(lambda: len([e for e in taken.events if b"DAEMON_" not in e.head]) == 4)
                await asyncio.to_thread(auditd.stop)
                await until(lambda: not source.streams)
        messages = [text_of(event) for event in taken.events if b"DAEMON_" not in event.head]
        given = [message.partition(b"] ")[2] for message in messages]
        assert given == [SENT[0], SENT[1] + b"\n" + SENT[2], SENT[4], SENT[5]]
        assert source.malformed == 0
        # DAEMON_END comes or not: once it is to stop, auditd gives its plugins nothing more of what it has queued.

    play(work)


def test_as_a_client_it_waits_for_auditd_and_comes_back(path: Path) -> None:
    async def work() -> None:
        taken, source = Taken(), dispatcher(path, "af_unix")
        async with running(source, taken):
            await until(lambda: source.last_error)
            for serial in (1, 2):
                given = asyncio.Event()

                async def serve(
                    _: asyncio.StreamReader,
                    writer: asyncio.StreamWriter,
                    serial: int = serial,
                    given: asyncio.Event = given,
                ) -> None:
                    writer.write(record(serial))
                    await writer.drain()
                    writer.close()
                    given.set()

                async with await asyncio.start_unix_server(serve, str(path)):
                    await given.wait()
                    await until(lambda: serial in taken.serials)  # noqa: B023  it is awaited at once
        assert taken.serials == [1, 2]

    play(work)
