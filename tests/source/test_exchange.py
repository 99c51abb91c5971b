"""A source that is exchanged while events come: its successor goes on where it stopped, without loss or repetition."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from harness.auditd import AudispRemote
from harness.held_spool import HeldSpool
from harness.ports import LOOPBACK, free_port, listens
from harness.waiting import until
from source.log_writing import Taken, record, text_of

from relay.events.audit.mapping import AuditMapping
from relay.events.ssr.mapping import SsrMapping
from relay.source.auditd.audit_dispatcher import AuditDispatcher
from relay.source.auditd.auditd_remote import AuditdRemote
from relay.source.collector.event_collector import CollectorProgram, EventCollector
from relay.values.address import Address
from relay.values.configuration.listener_url import ListenerUrl

EVENTS = 3000
PORTION = 500
PIECE = 777
"""Octets: no piece of what is written ends where an event does."""
EXCHANGES = 5
MAPPING = AuditMapping(hostname="router1", router="router1")
OTHER = AuditMapping(hostname="router2", router="router2")


def play(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 100))


async def finished(source: Any, task: "asyncio.Task[None]") -> None:
    """Have it finish, and wait no longer than a reload would."""
    async with asyncio.timeout(source.finish()):
        await task


def test_a_finishing_source_answers_the_plugin_between_two_events(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    portions = [
        b"".join(
            record(n, kind="SYSCALL", at_ms=n)
            + record(n, kind="PATH", at_ms=n)
            + record(n, kind="EOE", at_ms=n, body="")
            for n in range(first, first + PORTION)
        )
        for first in range(1, EVENTS, PORTION)
    ]

    def write(into: int, go_on: threading.Semaphore) -> None:
        for portion in portions:
            go_on.acquire()
            for start in range(0, len(portion), PIECE):
                os.write(into, portion[start : start + PIECE])

    async def work() -> None:
        taken, go_on = Taken(), threading.Semaphore(0)
        argv = [sys.executable, "-m", "relay", "dispatch", str(path)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as plugin:  # noqa: ASYNC220  for a moment
            assert plugin.stdin is not None
            writer = threading.Thread(target=write, args=(plugin.stdin.fileno(), go_on))
            writer.start()
            for number in range(len(portions)):
                source = AuditDispatcher("live", "relay", str(path), MAPPING)
                task = asyncio.create_task(source.run(taken.submit, None, drain=False))
                before = len(taken.serials)
                go_on.release()
                await until(lambda: len(taken.serials) > before, 60)  # noqa: B023  it is awaited at once
                if number < len(portions) - 1:
                    await finished(source, task)
            await asyncio.to_thread(writer.join)
            plugin.stdin.close()
            assert await asyncio.to_thread(plugin.wait, 60) == 0
            await finished(source, task)
        assert taken.serials == list(range(1, EVENTS + 1))
        assert all(b"type=PATH" in text_of(event) for event in taken.events)

    play(work)


def test_an_event_that_is_open_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "audit"

    async def work() -> None:
        taken, source = Taken(), AuditDispatcher("live", "relay", str(path), MAPPING)
        task = asyncio.create_task(source.run(taken.submit, None, drain=False))
        await until(path.exists)
        reader, writer = await asyncio.open_unix_connection(str(path))
        first = record(1, kind="SYSCALL", at_ms=1)
        writer.write(first)
        await until(lambda: source.open_events)
        source.finish()
        rest = record(1, kind="PATH", at_ms=1) + record(1, kind="EOE", at_ms=1, body="")
        writer.write(rest + record(2, kind="SYSCALL", at_ms=2))
        answers = (await reader.read()).split()
        assert int(answers[-1]) == len(first + rest), "the next event is the successor's"
        await task
        assert taken.serials == [1]
        writer.close()

    play(work)


def test_audisp_remote_is_answered_for_all_that_was_taken_in() -> None:
    one = b'type=USER_LOGIN msg=audit(1709742929.678:%d): pid=1 acct="root" res=success'
    records = [one % number for number in range(1, 2 * EXCHANGES + 2)]
    port = free_port()

    async def work() -> None:
        spool = HeldSpool()
        with AudispRemote(port) as client:
            for number in range(EXCHANGES):
                source = AuditdRemote(
                    "remote", (ListenerUrl("tcp", Address(LOOPBACK, port)),), MAPPING, answer_within=60
                )
                task = asyncio.create_task(source.run(spool.submit, None, drain=False))
                await until(lambda: listens(port))
                client.feed(records[2 * number : 2 * number + 2])
                await until(lambda: spool.held, 60)
                source.finish()
                await asyncio.sleep(0)
                assert not task.done(), "what was taken in is not durable yet"
                spool.sync()
                await asyncio.wait_for(task, 20)
            source = AuditdRemote("remote", (ListenerUrl("tcp", Address(LOOPBACK, port)),), MAPPING, answer_within=60)
            task = asyncio.create_task(source.run(spool.submit, None, drain=False))
            client.feed(records[2 * EXCHANGES :])
            while len(spool.events) < len(records):
                await until(lambda: spool.held, 60)
                spool.sync()
            await finished(source, task)
        assert [event.tail.rpartition(b"] ")[2] for event in spool.events] == records

    play(work)


def test_the_last_events_of_a_terminated_collector_are_submitted() -> None:
    script = (
        "trap 'echo events,type=admin number=2i 1; exit 0' TERM; echo events,type=admin number=1i 1; sleep 100 & wait"
    )

    async def work() -> None:
        taken = Taken()
        source = EventCollector(
            "events", CollectorProgram(("/bin/sh", "-c", script)), SsrMapping(hostname="h", router="h")
        )
        task = asyncio.create_task(source.run(taken.submit, None, drain=False))
        await until(lambda: taken.events, 60)
        await finished(source, task)
        assert [b'number="%d"' % n in text_of(event) for n, event in enumerate(taken.events, 1)] == [True, True]
        assert source.starts == 1

    play(work)


@pytest.mark.parametrize("plugin", ["relay", "af_unix"])
def test_only_how_events_are_written_changes_without_ending_a_connection(tmp_path: Path, plugin: Any) -> None:
    source = AuditDispatcher("live", plugin, str(tmp_path / "a"), MAPPING)
    assert source.adopt(AuditDispatcher("live", plugin, str(tmp_path / "a"), OTHER))
    assert source.mapping is OTHER
    assert not source.adopt(AuditDispatcher("live", plugin, str(tmp_path / "b"), MAPPING))
    remote = AuditdRemote("remote", (ListenerUrl("tcp", Address(LOOPBACK, 1)),), MAPPING)
    assert remote.adopt(AuditdRemote("remote", (ListenerUrl("tcp", Address(LOOPBACK, 1)),), OTHER))
    assert remote.mapping is OTHER
    assert not remote.adopt(AuditdRemote("remote", (ListenerUrl("tcp", Address(LOOPBACK, 2)),), OTHER))
    assert not remote.adopt(source)
    program, ssr = CollectorProgram(("/bin/true",)), SsrMapping(hostname="h", router="h")
    collector, renamed = EventCollector("events", program, ssr), SsrMapping(hostname="i", router="i")
    assert collector.adopt(EventCollector("events", program, renamed))
    assert collector.mapping is renamed
    assert not collector.adopt(EventCollector("events", CollectorProgram(("/bin/false",)), ssr))
