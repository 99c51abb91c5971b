"""RELP to the listener, by rsyslog's omrelp and by octets written by hand: answers follow fsync, never precede it."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from harness.held_spool import DEADLINE, HeldSpool, PromptSpool
from harness.ports import LOOPBACK
from harness.rsyslog import RsyslogForwarder
from harness.waiting import until
from listener.test_tcp_listener import Sender, connected, listening, run

from relay.listener.conversation import ALL
from relay.listener.reception.stream_terms import StreamTerms
from relay.syslog.framing import octet_counted
from relay.values.provenance import ReceiptMark

TERMS = StreamTerms(dialects=ALL, max_message_size=1 << 20)
OPEN = b"1 open 86 relp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n"
OPENED = b"1 rsp 57 200 OK\nrelp_version=0\nrelp_software=relay\ncommands=syslog\n"


async def hears(sender: Sender, octets: bytes) -> None:
    async with asyncio.timeout(DEADLINE):
        assert await sender.reader.readexactly(len(octets)) == octets


def test_a_message_is_answered_after_its_sync_and_not_before() -> None:
    async def scenario() -> None:
        spool = HeldSpool()
        async with listening(spool, TERMS) as listener, connected(listener) as sender:
            sender.send(OPEN + b"2 syslog 5 <1>ab\n")
            await hears(sender, OPENED)
            await until(lambda: spool.messages == [b"<1>ab"])
            sender.send(b"3 syslog 5 <1>cd\n")
            await until(lambda: len(spool.held) == 2)
            assert await sender.still_open()
            spool.sync()
            await hears(sender, b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n")

    run(scenario)


def test_a_session_closes_by_relps_rules_once_everything_is_answered() -> None:
    async def scenario() -> None:
        spool = HeldSpool()
        async with listening(spool, TERMS) as listener, connected(listener) as sender:
            sender.send(OPEN + b"2 syslog 5 <1>ab\n3 close 0\n")
            await hears(sender, OPENED)
            await until(lambda: spool.held)
            spool.sync()
            await hears(sender, b"2 rsp 6 200 OK\n3 rsp 0\n")
            assert await sender.ending() == "closed"

    run(scenario)


def test_a_message_that_is_not_durable_is_never_answered() -> None:
    async def scenario() -> None:
        spool = HeldSpool()
        async with listening(spool, TERMS) as listener, connected(listener) as sender:
            sender.send(OPEN)
            await hears(sender, OPENED)
            sender.send(b"2 syslog 5 <1>ab\n3 close 0\n")
            await until(lambda: spool.held)
            spool.fail()
            assert await sender.ending() == "reset"
            assert listener.counters.storage_errors == 1

    run(scenario)


@pytest.mark.parametrize("broken", [b"3 open 0\n", b"2 syslog 5 <1>cd\n", b"<13>1 - - - - - - x\n", b"x" * 100_000])
def test_messages_before_a_fault_become_durable_and_the_stream_is_reset(broken: bytes) -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        async with listening(spool, TERMS) as listener, connected(listener) as sender:
            sender.send(OPEN + b"2 syslog 5 <1>ab\n" + broken)
            await until(lambda: listener.counters.framing_errors == 1)
            assert spool.messages == [b"<1>ab"]

    run(scenario)


def test_a_message_that_is_too_long_is_cut_and_accepted_and_the_session_continues() -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        async with listening(spool, TERMS) as listener, connected(listener) as sender:
            sender.send(OPEN + b"2 syslog 1048577 " + b"x" * 1048577 + b"\n3 syslog 5 <1>ab\n")
            await hears(sender, OPENED + b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n")
            assert (listener.counters.cut, listener.counters.dropped_octets) == (1, 1)
            assert spool.messages == [b"x" * 1048576, b"<1>ab"]
            assert [event.marks for event in spool.events] == [ReceiptMark.CUT, 0]

    run(scenario)


def test_one_port_accepts_relp_and_syslog() -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        async with listening(spool, TERMS) as listener, connected(listener) as one, connected(listener) as other:
            one.send(OPEN + b"2 syslog 5 <1>ab\n")
            other.send(b"10 <1>counted")
            await until(lambda: sorted(spool.messages) == [b"<1>ab", b"<1>counted"])

    run(scenario)


# --- rsyslog's omrelp ---

MESSAGES = [
    b"x",
    b"<13>1 - - - - - - " + b"a" * 8192,
    b"<13>1 - - - - - - " + b"b" * 65536,
    b"<13>1 - - - - - - line\nline",
    b"<13>1 - - - - - - \xff\xfe\x80 and \x1d\x01\r\t\x7f",
]


def _forwarding(spool: HeldSpool, use: Callable[[RsyslogForwarder], Awaitable[None]]) -> None:
    """Let omrelp forward to a listener with this spool."""

    async def scenario() -> None:
        async with listening(spool, TERMS) as listener:
            with RsyslogForwarder(listener.address[1], "relp") as rsyslog:
                await use(rsyslog)

    run(scenario)


def _send(rsyslog: RsyslogForwarder, messages: list[bytes]) -> None:
    with socket.create_connection((LOOPBACK, rsyslog.port)) as program:
        program.sendall(b"".join(octet_counted(message) for message in messages))


def test_omrelps_messages_are_stored_octet_for_octet() -> None:
    spool = PromptSpool()

    async def use(rsyslog: RsyslogForwarder) -> None:
        await asyncio.to_thread(_send, rsyslog, MESSAGES)
        await until(lambda: len(spool.messages) >= len(MESSAGES))
        assert spool.messages == MESSAGES

    _forwarding(spool, use)


def test_omrelp_repeats_unanswered_messages() -> None:
    """More than its window, because omrelp notices a lost connection only when it sends or waits for answers."""
    spool = PromptSpool()
    spool.failing = True
    messages = [b"<13>1 - - - - - - message %d" % number for number in range(3000)]

    async def use(rsyslog: RsyslogForwarder) -> None:
        await asyncio.to_thread(_send, rsyslog, messages)
        await until(lambda: spool.messages)
        spool.failing = False
        spool.batches.clear()
        await until(lambda: set(spool.messages) == set(messages))

    _forwarding(spool, use)
