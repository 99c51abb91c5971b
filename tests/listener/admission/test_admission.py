"""The ceilings of connections, their counters by cause, and their log lines."""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import socket
import threading
import tracemalloc
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any

import pytest
from harness.held_spool import HeldSpool
from harness.waiting import until

from relay.listener import acceptor
from relay.listener.admission.admission import (
    CROWDED_FOR,
    SILENT_FOR,
    UNPROVEN_FOR,
    Admission,
    AdmittedConnection,
    ConnectionLimits,
    Refusal,
)
from relay.listener.admission.penalties import SenderFault
from relay.listener.admission.standing import PER_SECOND
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
    async def scenario() -> None:
        admission = Admission(ConnectionLimits(per_address=1))
        assert all(admission.admit(address) for _ in range(3))
        for stranger in ("192.0.2.1", "fe80::1%eth0"):
            assert admission.admit(stranger)
            assert admission.admit(stranger) is None

    run(scenario)


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
    assert texts[0].startswith("1 connection refused: 1 beyond max-connections = 1; 1 from 192.0.2.9; if these")
    assert texts[1].startswith("99 connections refused: 99 beyond max-connections = 1; 99 from 192.0.2.9; if these")
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


def test_whatever_the_ceilings_are_some_descriptors_are_left_for_files() -> None:
    """Two listeners have ceilings of their own, as sources have them; more senders come than there are descriptors."""

    async def scenario() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with contextlib.AsyncExitStack() as stack:
            senders = [stack.enter_context(socket.socket()) for _ in range(200)]
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            resource.setrlimit(resource.RLIMIT_NOFILE, (senders[-1].fileno() + 120, hard))
            admissions = [Admission(), Admission()]
            listeners = [
                await stack.enter_async_context(TcpListener("127.0.0.1", 0, HeldSpool().submit, admission=admission))
                for admission in admissions
            ]
            for number, sender in enumerate(senders):
                sender.connect(listeners[number % 2].address)
            await until(
                lambda: sum(each.connections + each.refused[Refusal.DESCRIPTORS] for each in admissions) == len(senders)
            )
            assert all(each.connections and each.refused[Refusal.DESCRIPTORS] for each in admissions)
            for _ in range(15):
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))

    run(scenario)


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


class Door:
    """An admission with a stopped clock, chance that is known, and the connections that it has broken off."""

    def __init__(self, limits: ConnectionLimits, chance: float = 0.0) -> None:
        self.now = 1000.0
        self.chance = chance
        self.broken_off: list[str] = []
        self.admission = Admission(limits, monotonic=lambda: self.now, chance=lambda: self.chance)

    def admit(self, name: str, address: str, *, authenticates: bool = False) -> AdmittedConnection | None:
        """A connection of that name."""
        admitted = self.admission.admit(address, authenticates=authenticates)
        if admitted is not None:
            admitted.close = lambda: self.broken_off.append(name)
        return admitted

    def served(self, address: str, *, authenticates: bool = False) -> AdmittedConnection:
        """A connection that is surely admitted."""
        admitted = self.admit("", address, authenticates=authenticates)
        assert admitted is not None
        return admitted


def test_idle_connections_make_room_for_newcomers_the_oldest_silent_one_first() -> None:
    async def scenario() -> None:
        door = Door(ConnectionLimits(connections=4))
        quiet = door.admit("quiet router", "127.0.0.1")
        assert quiet is not None
        quiet.heard()
        quiet.completed()
        speaking = door.admit("speaking", "127.0.0.1")
        assert speaking is not None
        speaking.heard()
        for name in ("silent 1", "silent 2"):
            assert door.admit(name, "127.0.0.1")
        assert door.admit("at once", "127.0.0.1") is None
        door.now += SILENT_FOR
        assert door.admit("third", "127.0.0.1")
        assert door.admit("fourth", "127.0.0.1")
        assert door.admit("fifth", "127.0.0.1") is None
        assert door.broken_off == ["silent 1", "silent 2"]
        door.now += UNPROVEN_FOR
        for number in range(3):
            assert door.admit(f"later {number}", "127.0.0.1")
        assert door.broken_off[2:] == ["third", "fourth", "speaking"]
        door.now += 1e6
        for number in range(20):
            assert door.admit(f"flood {number}", "127.0.0.1")
            door.now += SILENT_FOR
        assert "quiet router" not in door.broken_off
        assert (door.admission.connections, door.admission.made_room) == (4, 25)

    run(scenario)


def test_twenty_idle_connections_of_a_local_user_do_not_keep_logins_out() -> None:
    async def scenario() -> None:
        door = Door(ConnectionLimits(unauthenticated=20))
        for number in range(20):
            door.chance = 1.0 if number < 19 else 0.999
            assert door.admit(f"idle {number}", "127.0.0.1", authenticates=True)
        door.now += SILENT_FOR
        door.chance = 0.0
        login = door.admit("login", "127.0.0.1", authenticates=True)
        assert login is not None
        assert door.broken_off == ["idle 0"]

    run(scenario)


def test_unfinished_logins_make_room_from_the_source_that_has_the_most() -> None:
    async def scenario() -> None:
        door = Door(ConnectionLimits(unauthenticated=10))
        for name, address in [("other", "192.0.2.1"), *((f"of crowd {n}", "192.0.2.9") for n in range(5))]:
            admitted = door.admit(name, address, authenticates=True)
            assert admitted is not None
            admitted.heard()
        assert door.admit("half is reached", "192.0.2.9", authenticates=True) is None
        door.now += UNPROVEN_FOR
        assert door.admit("of crowd 5", "192.0.2.9", authenticates=True)
        for number in range(4):
            assert door.admit(f"further {number}", f"192.0.2.{100 + number}", authenticates=True)
        assert door.admit("newcomer", "192.0.2.200", authenticates=True)
        assert door.broken_off == ["of crowd 0", "of crowd 1"]
        assert door.admission.unauthenticated == 10

    run(scenario)


def test_a_crowd_that_is_slow_to_log_in_makes_room_for_other_sources_sooner() -> None:
    async def scenario() -> None:
        door = Door(ConnectionLimits(unauthenticated=100), chance=0.99)
        for number in range(50):
            admitted = door.admit(f"of crowd {number}", "192.0.2.9", authenticates=True)
            assert admitted is not None
            admitted.heard()
        door.chance = 0.0
        assert door.admit("router at once", "192.0.2.1", authenticates=True) is None
        door.now += CROWDED_FOR
        assert door.admit("one more of crowd", "192.0.2.9", authenticates=True) is None
        assert door.admit("router", "192.0.2.1", authenticates=True)
        assert door.broken_off == ["of crowd 0"]

    run(scenario)


def test_a_local_crowd_that_is_slow_to_log_in_makes_room_for_a_login_from_the_same_address() -> None:
    async def scenario() -> None:
        door = Door(ConnectionLimits(), chance=0.999)
        for number in range(100):
            admitted = door.admit(f"{number}", "127.0.0.1", authenticates=True)
            if admitted is not None:
                admitted.heard()
        door.chance = 0.0
        assert door.admit("login at once", "127.0.0.1", authenticates=True) is None
        door.now += CROWDED_FOR
        assert door.admit("login", "127.0.0.1", authenticates=True)
        assert door.broken_off == ["0"]

    run(scenario)


def test_a_source_with_a_penalty_breaks_no_connection_off() -> None:
    async def scenario() -> None:
        door = Door(ConnectionLimits(connections=16))
        for _ in range(15):
            door.served("192.0.2.9").leave()
        for number in range(16):
            assert door.admit(f"{number}", f"198.51.100.{number}")
        door.now += SILENT_FOR
        assert door.admit("", "192.0.2.9") is None
        assert (door.broken_off, door.admission.refused) == ([], {Refusal.PENALTY: 1})

    run(scenario)


def test_newcomers_are_dropped_at_random_before_the_ceiling_is_reached() -> None:
    async def scenario() -> None:
        door = Door(ConnectionLimits(unauthenticated=100), chance=0.5)
        served = sum(door.admit("", f"198.51.100.{n}", authenticates=True) is not None for n in range(100))
        assert 45 < served < 55
        door.chance = 0.9
        assert door.admit("", "198.51.100.200", authenticates=True)
        assert door.admit("", "198.51.100.201") is not None

    run(scenario)


@pytest.mark.parametrize(
    ("fault", "authenticates", "needed"),
    [
        (None, True, 15),
        (SenderFault.AUTHENTICATION, True, 3),
        (SenderFault.TIMEOUT, True, 2),
        (SenderFault.GARBAGE, False, 3),
    ],
)
def test_a_source_whose_connections_fail_is_refused_for_a_while(
    fault: SenderFault | None, authenticates: bool, needed: int
) -> None:
    async def scenario() -> None:
        door = Door(ConnectionLimits())
        for _ in range(needed):
            admitted = door.served("2001:db8::1", authenticates=authenticates)
            admitted.heard()
            if fault is not None:
                admitted.fault(fault)
            admitted.leave()
        assert door.admit("", "2001:db8::2") is None
        assert door.admit("", "2001:db8:0:1::2")
        assert door.admission.refused == {Refusal.PENALTY: 1}
        door.now += 20
        assert door.admit("", "2001:db8::2")

    run(scenario)


@pytest.mark.parametrize("proves", [AdmittedConnection.authenticated, AdmittedConnection.completed])
def test_strangers_behind_the_same_address_do_not_lock_a_good_sender_out(
    proves: Callable[[AdmittedConnection], None],
) -> None:
    async def scenario() -> None:
        door = Door(ConnectionLimits(), chance=0.9)
        good = door.served("192.0.2.1", authenticates=True)
        good.heard()
        proves(good)
        good.fault(SenderFault.TIMEOUT)
        good.leave()
        for _ in range(15):
            door.served("192.0.2.1").leave()
        passed = [door.admit("", "192.0.2.1", authenticates=True) is not None for _ in range(PER_SECOND + 5)]
        assert passed == [True] * PER_SECOND + [False] * 5
        door.now += 1
        assert door.admit("", "192.0.2.1", authenticates=True)

    run(scenario)


@pytest.mark.parametrize("is_verified", [False, True])
def test_broken_frames_after_a_message_count_unless_the_sender_is_verified(*, is_verified: bool) -> None:
    """Each connection begins with a good message, which costs a stranger nothing."""

    async def scenario() -> None:
        door = Door(ConnectionLimits())
        passed = 0
        for _ in range(100):
            admitted = door.admission.admit("192.0.2.1", authenticates=is_verified)
            if admitted is not None:
                passed += 1
                admitted.heard()
                if is_verified:
                    admitted.authenticated()
                admitted.completed()
                admitted.fault(SenderFault.GARBAGE)
                admitted.leave()
        assert passed == (100 if is_verified else 15 + PER_SECOND)
        door.now += 1
        assert door.admission.admit("192.0.2.1")

    run(scenario)


def test_exempt_sources_and_proxies_get_no_penalty_and_the_sender_behind_a_proxy_does() -> None:
    async def scenario() -> None:
        door = Door(ConnectionLimits(per_address=2))
        for _ in range(100):
            door.served("127.0.0.1", authenticates=True).leave()
            health_check = door.admission.admit("192.0.2.100", is_proxy=True)
            assert health_check is not None
            health_check.leave()
        for number in range(5):
            proxied = door.admission.admit("192.0.2.100", authenticates=True, is_proxy=True)
            assert proxied is not None
            assert proxied.move("192.0.2.1") == (number < 3)
            proxied.fault(SenderFault.AUTHENTICATION)
            proxied.leave()
        assert door.admission.refused == {Refusal.PENALTY: 2}
        assert door.admission.connections == door.admission.unauthenticated == 0

    run(scenario)


def test_many_sources_share_one_line_that_names_a_few(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        admission = Admission(ConnectionLimits(connections=1), monotonic=lambda: 0.0)
        assert admission.admit("192.0.2.1")
        for number in range(2000):
            admission.admit(str(ip_address(number + 2**31)))
        admission.close()

    run(scenario)
    first, second = caplog.messages
    assert "1 from 128.0.0.0;" in first
    assert second.startswith("1999 connections refused: 1999 beyond max-connections = 1; 1743 from other senders, 1")
    assert "and others from 252 further sources; if these senders are yours" in second
    assert len(second) < 400
