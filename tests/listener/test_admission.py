"""The ceilings of connections, their counters by cause, and their log lines."""

import asyncio
import errno
import gc
import logging
import os
import resource
import socket
import threading
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from harness.held_spool import HeldSpool
from harness.waiting import until

from relay.listener import acceptor
from relay.listener.admission import Admission, ConnectionLimits, Refusal, is_loopback
from relay.listener.tcp import SocketConnection, TcpListener
from relay.system.minute_log import MinuteLog


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario(), debug=False)


def synced(spool: HeldSpool) -> bool:
    spool.sync()
    return True


def test_the_ceilings_apply_to_all_listeners_together_and_are_counted_by_cause() -> None:
    async def scenario() -> None:
        admission = Admission(ConnectionLimits(connections=5, per_address=2, unauthenticated=2))
        first, second = admission.admit("192.0.2.1"), admission.admit("192.0.2.1", authenticates=True)
        assert first is not None
        assert second is not None
        assert admission.admit("192.0.2.1") is None
        third = admission.admit("192.0.2.2", authenticates=True)
        assert third is not None
        assert admission.admit("192.0.2.3", authenticates=True) is None
        third.authenticated()
        third.authenticated()
        assert admission.unauthenticated == 1
        assert admission.admit("192.0.2.3", authenticates=True) is not None
        assert admission.admit("192.0.2.4") is not None
        assert admission.admit("192.0.2.5") is None
        assert admission.refused == {Refusal.PER_ADDRESS: 1, Refusal.UNAUTHENTICATED: 1, Refusal.CONNECTIONS: 1}
        for each in (first, second, second, third):
            each.leave()
        assert (admission.connections, admission.unauthenticated) == (2, 1)
        admission.limits = ConnectionLimits(connections=3)
        assert admission.admit("192.0.2.5") is not None
        assert admission.admit("192.0.2.5") is None
        assert Admission(ConnectionLimits(connections=1000), descriptors=7).ceiling == 7

    run(scenario)


def test_one_address_has_at_most_half_of_the_unauthenticated_connections() -> None:
    async def scenario() -> None:
        admission = Admission(ConnectionLimits(unauthenticated=4))
        silent = [admission.admit("192.0.2.1", authenticates=True) for _ in range(10)]
        assert len([each for each in silent if each]) == 2
        assert admission.admit("192.0.2.1") is not None
        other = admission.admit("192.0.2.2", authenticates=True)
        assert other is not None
        assert silent[0] is not None
        silent[0].authenticated()
        assert admission.admit("192.0.2.1", authenticates=True) is not None
        other.leave()
        assert admission.unauthenticated == 2

    run(scenario)


def test_senders_behind_a_proxy_are_each_limited_and_not_together() -> None:
    async def scenario() -> None:
        admission = Admission(ConnectionLimits(unauthenticated=4, per_address=3))

        def admit_by_proxy(address: str) -> bool:
            admitted = admission.admit("192.0.2.100", authenticates=True)
            assert admitted is not None
            served = admitted.move(address)
            if not served:
                admitted.leave()
            return served

        assert [admit_by_proxy("192.0.2.1") for _ in range(4)] == [True, True, False, False]
        assert [admit_by_proxy("192.0.2.2") for _ in range(2)] == [True, True]
        assert admission.admit("192.0.2.100", authenticates=True) is None
        assert admission.admit("192.0.2.100") is not None
        assert (admission.connections, admission.unauthenticated) == (5, 4)

    run(scenario)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", ""])
def test_the_ceiling_of_an_address_does_not_apply_on_this_machine(address: str) -> None:
    admission = Admission(ConnectionLimits(per_address=1))
    assert all(admission.admit(address) for _ in range(3))
    assert not is_loopback("192.0.2.1")
    assert not is_loopback("fe80::1%eth0")


def test_refusals_are_one_line_at_once_and_then_one_a_minute_with_the_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        admission = Admission(ConnectionLimits(connections=1, per_address=1), minute=0.05)
        assert admission.admit("192.0.2.1")
        for _ in range(100):
            assert admission.admit("192.0.2.9") is None
        assert len(caplog.records) == 1
        await until(lambda: len(caplog.records) == 2)
        admission.starved()
        admission.close()

    run(scenario)
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0].startswith(
        "1 connection refused: 1 beyond max-connections = 1, the last from 192.0.2.9; 1 are open"
    )
    assert texts[1].startswith("99 connections refused: 99 beyond max-connections = 1")
    assert texts[2].startswith("no file descriptor for a new connection")
    assert "LimitNOFILE" in texts[2]


def test_a_minute_log_is_silent_after_a_minute_without_anything() -> None:
    async def scenario() -> None:
        lines: list[dict[str, int]] = []
        log = MinuteLog(lambda counts: lines.append(dict(counts)), 0.02)
        log.count("a", 3)
        log.count("b")
        await until(lambda: len(lines) == 2)
        await until(lambda: log._pause is None)
        log.count("a")
        log.close()
        assert lines == [{"a": 3}, {"b": 1}, {"a": 1}]

    run(scenario)


def test_without_a_descriptor_a_listener_pauses_logs_one_line_and_continues(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process really has no descriptor left; asyncio's own server would log a traceback a second."""
    monkeypatch.setattr(acceptor, "PAUSE", 0.05)

    async def scenario() -> None:
        spool, admission = HeldSpool(), Admission()
        async with TcpListener("127.0.0.1", 0, spool.submit, admission=admission) as listener:
            senders = [socket.create_connection(listener.address) for _ in range(2)]
            await until(lambda: listener.counters.open == 2)
            late = socket.socket()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 1, hard))
            try:
                with pytest.raises(OSError, match="Too many open files") as full:
                    os.dup(0)
                assert full.value.errno == errno.EMFILE
                late.connect(listener.address)
                late.sendall(b"<1>late\n")
                await until(lambda: admission.refused[Refusal.DESCRIPTORS] >= 3)
                senders[0].sendall(b"<1>open\n")
                await until(lambda: spool.messages == [b"<1>open"])
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await until(lambda: b"<1>late" in spool.messages)
            for sender in (*senders, late):
                sender.close()
            await until(lambda: synced(spool) and listener.counters.open == 0)

    with caplog.at_level(logging.WARNING):
        run(scenario)
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "no file descriptor" in line.getMessage()
    assert line.exc_info is None


def test_connect_and_close_cycles_leave_nothing_behind() -> None:
    async def scenario() -> None:
        spool = HeldSpool()
        async with TcpListener("127.0.0.1", 0, spool.submit) as listener:

            async def cycles(number: int) -> None:
                for at in range(number):
                    with socket.create_connection(listener.address) as sender:
                        sender.sendall(b"<1>x\n" if at % 2 else b"")
                    if at % 50 == 49:
                        expected = listener.counters.connections + 50
                        await until(lambda: listener.counters.connections == expected)  # noqa: B023  used at once
                        await until(lambda: synced(spool) and not listener._receptions)
                spool.batches.clear()

            await cycles(100)
            descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
            tracemalloc.start()
            await cycles(100)
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            await cycles(400)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert len(os.listdir("/proc/self/fd")) == descriptors
            assert threading.active_count() == threads
            assert after - before < 400 * 100, f"{(after - before) / 400} bytes a cycle"

    run(scenario)


def test_a_connection_that_failed_is_freed_at_once_without_the_garbage_collector(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its buffers, and under TLS what OpenSSL keeps, would wait for a collection that seldom comes."""
    caplog.set_level(logging.CRITICAL, "relay.listener.stream")  # pytest would keep the errors that are logged

    async def scenario() -> None:
        async with TcpListener("127.0.0.1", 0, HeldSpool().submit) as listener:
            gc.collect()
            gc.disable()
            try:
                for _ in range(10):
                    with socket.create_connection(listener.address) as sender:
                        sender.sendall(b"100 <13>cut off")
                await until(lambda: listener.counters.connections == 10 and not listener._receptions)
                await asyncio.sleep(0)  # the last task ends
                left = [each for each in gc.get_objects() if isinstance(each, SocketConnection)]
                assert not left, gc.get_referrers(left[0])
            finally:
                gc.enable()
            assert listener.counters.truncated + listener.counters.framing_errors + listener.counters.lost == 10

    run(scenario)
