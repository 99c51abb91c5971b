"""Connections that send no message: they are reset in time, and make room for others before that."""

import asyncio
import contextlib
import functools
import itertools
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.held_spool import HeldSpool
from harness.leaping_loop import leap, run_leaping
from harness.waiting import until

from relay.listener.admission.admission import Admission, ConnectionLimits, Refusal
from relay.listener.conversation import ALL, AUDITD
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.tcp import StreamListener, TcpListener
from relay.listener.unix_socket import binding_of_path

_OPEN = b"1 open 51 relp_version=0\nrelp_software=loader\ncommands=syslog\n"


async def ending(sender: socket.socket) -> str:
    """How the listener ended the connection; "open" if it has not."""
    sender.setblocking(False)
    for _ in range(100):  # a reset or an end may be a moment behind the time
        try:
            data = await asyncio.get_running_loop().sock_recv(sender, 1000) if await readable(sender) else None
        except ConnectionResetError:
            return "reset"
        if data == b"":
            return "closed"
        if data is None:
            break
    return "open"


async def readable(sender: socket.socket) -> bool:
    """Whether something can be read."""
    for _ in range(20):
        await asyncio.sleep(0)
    with contextlib.suppress(BlockingIOError):
        sender.recv(1, socket.MSG_PEEK)
        return True
    return False


@contextlib.asynccontextmanager
async def senders(
    number: int, terms: StreamTerms, admission: Admission | None = None
) -> AsyncIterator[tuple[list[socket.socket], TcpListener, HeldSpool]]:
    """Connections that are open, their listener and its spool."""
    spool = HeldSpool()
    async with TcpListener("127.0.0.1", 0, spool.submit, terms=terms, admission=admission) as listener:
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(socket.create_connection(listener.address)) for _ in range(number)]
            await until(lambda: listener.counters.open == number)
            yield opened, listener, spool


def test_only_a_connection_that_has_sent_a_message_may_be_silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def scenario() -> None:
        async with senders(4, StreamTerms(dialects=ALL)) as ((silent, opened, begun, used), listener, spool):
            opened.sendall(_OPEN)
            begun.sendall(b"\n")
            used.sendall(b"<1>one\n")
            await until(lambda: spool.messages and listener.counters.octets == len(_OPEN) + 1 + 7)
            spool.sync()
            await leap(59)
            assert listener.counters.unused == 0
            await leap(2)
            assert (await ending(silent), listener.counters.unused) == ("reset", 1)
            await leap(530)
            assert listener.counters.unused == 1
            await leap(15)
            assert (await ending(opened), await ending(begun), listener.counters.unused) == ("reset", "reset", 3)
            await leap(80_000)
            assert (await ending(used), listener.counters.unused) == ("open", 3)

    run_leaping(scenario)
    assert not caplog.messages


def test_a_message_just_before_the_end_counts() -> None:
    async def scenario() -> None:
        async with senders(1, StreamTerms()) as ((sender,), listener, spool):
            await leap(50)
            sender.sendall(b"<1>one\n")
            await leap(3600)
            await until(lambda: spool.messages == [b"<1>one"])
            spool.sync()
            await leap(3600)
            assert (await ending(sender), listener.counters.unused) == ("open", 0)

    run_leaping(scenario)


def test_a_silent_audisp_remote_sees_an_end_of_file_after_which_it_connects_again() -> None:
    async def scenario() -> None:
        async with senders(1, StreamTerms(dialects=(AUDITD,))) as ((sender,), listener, _):
            await leap(61)
            await until(lambda: listener.counters.open == 0)
            assert (await ending(sender), listener.counters.unused) == ("closed", 1)

    run_leaping(scenario)


def test_time_in_which_relay_does_not_read_does_not_count() -> None:
    """While the spool is full, the octets of a sender wait unread."""

    async def scenario() -> None:
        writable = asyncio.Event()
        async with senders(1, StreamTerms(writable=writable)) as ((sender,), listener, spool):
            sender.sendall(b"<1>begun")
            await until(lambda: listener.counters.octets)
            await leap(3600)
            writable.set()
            await asyncio.sleep(0)
            sender.sendall(b"\n")
            await until(lambda: spool.messages == [b"<1>begun"])

    run_leaping(scenario)


def test_a_silent_connection_to_a_unix_socket_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        path, spool = str(tmp_path / "socket"), HeldSpool()
        bind = binding_of_path(path, socket.SOCK_STREAM, 0o600)
        async with StreamListener(f"unix://{path}", bind, spool.submit) as listener:
            with socket.socket(socket.AF_UNIX) as sender:
                sender.connect(path)
                await until(lambda: listener.counters.open == 1)
                await leap(61)
                assert (await ending(sender), listener.counters.unused) == ("closed", 1)

    run_leaping(scenario)


def test_idle_connections_of_one_source_do_not_keep_others_out() -> None:
    async def scenario() -> None:
        each_is_a_second_later = functools.partial(next, itertools.count())
        admission = Admission(ConnectionLimits(connections=100), monotonic=each_is_a_second_later)
        async with senders(100, StreamTerms(), admission) as (idle, listener, spool):
            with socket.create_connection(listener.address) as router:
                router.sendall(b"<1>one\n")
                await until(lambda: spool.messages == [b"<1>one"])
                assert await ending(idle[0]) == "reset"
                for _ in range(150):
                    idle.append(socket.create_connection(listener.address))
                    await until(lambda: admission.made_room == len(idle) - 99)
                spool.sync()
                assert await ending(router) == "open"
                assert admission.refused[Refusal.CONNECTIONS] == 0
                for each in idle:
                    each.close()

    run_leaping(scenario)
