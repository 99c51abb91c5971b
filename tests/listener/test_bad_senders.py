"""Senders that break RELP or the auditd protocol, over real sockets: each is named, counted and reset.

What came before the fault is kept. Two well-behaved senders are connected meanwhile; they are served as ever.
"""

import asyncio
import logging
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import Final, NamedTuple

import pytest
from harness.held_spool import PromptSpool
from harness.waiting import until
from listener.test_relp_listener import OPEN, OPENED, TERMS, hears
from listener.test_tcp_listener import Sender, connected, listening, run

from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.tcp import TcpListener
from relay.syslog.framing import octet_counted

MAGIC: Final = 0xFF0000FE
ACK: Final = 0x40000000
RECORD: Final = b"type=LOGIN msg=audit(1.000:%d): pid=1"
MEGABYTES: Final = 10_000_000
SHORT_FRAME_TIMEOUT: Final = replace(TERMS, frame_timeout=0.3)


def framed(sequence: int, body: bytes, type_: int = 0, *, magic: int = MAGIC, version: int = 0) -> bytes:
    """A message of the auditd protocol."""
    return struct.pack("<IBBIHI", magic, version, 0, type_, len(body), sequence) + body


GOOD: Final = {"relp": OPEN + b"2 syslog 5 <1>ab\n", "auditd": framed(1, RECORD % 1)}


class Fault(NamedTuple):
    """The octets that a sender sends after GOOD."""

    protocol: str
    octets: bytes
    counter: str
    """The counter of the fault."""
    cause: str
    half_closes: bool = False
    terms: StreamTerms = TERMS


FAULTS: Final = {
    "relp garbage": Fault("relp", b"\x16\x03\x01\x02\0", "framing_errors", "a frame begins with TXNR"),
    "relp 10 MB without a line feed": Fault("relp", b"x" * MEGABYTES, "framing_errors", "a frame begins with TXNR"),
    "relp 10 MB in a frame that ends without one": Fault(
        "relp", b"3 syslog 10000000 " + b"x" * (MEGABYTES + 1), "framing_errors", "frame 3 does not end with LF"
    ),
    "relp frame left out": Fault("relp", b"4 syslog 5 <1>cd\n", "framing_errors", "frame 4 came where frame 3 is due"),
    "relp frame again": Fault("relp", b"2 syslog 5 <1>ab\n", "framing_errors", "frame 2 came where frame 3 is due"),
    "relp second open": Fault("relp", b"3" + OPEN[1:], "framing_errors", "open may not come again"),
    "relp command that is none": Fault("relp", b"3 starttls 0\n", "framing_errors", "starttls may not come here"),
    "relp frame after close": Fault(
        "relp", b"3 close 0\n4 syslog 5 <1>cd\n", "framing_errors", "frame 4 came after close"
    ),
    "relp end in a frame": Fault("relp", b"3 syslog 100 <1>c", "truncated", "ended inside a frame", half_closes=True),
    "relp frame without its rest": Fault(
        "relp", b"3 syslog 100 <1>c", "slow", "the rest of a frame did not arrive", terms=SHORT_FRAME_TIMEOUT
    ),
    "auditd garbage": Fault("auditd", b"GET / HTTP/1.1\r\n\r\n", "framing_errors", "not with 0x20544547"),
    "auditd 10 MB without a line feed": Fault(
        "auditd", b"x" * MEGABYTES, "framing_errors", "a header begins with 0xff0000fe, not with 0x78787878"
    ),
    "auditd another version": Fault("auditd", framed(2, b"", version=1), "framing_errors", r"version 1\.0 of it"),
    "auditd an answer": Fault("auditd", framed(1, b"", ACK), "framing_errors", "a client does not send ACK"),
    "auditd end in a header": Fault(
        "auditd", framed(2, RECORD)[:9], "truncated", "ended inside a frame", half_closes=True
    ),
    "auditd end in a record": Fault(
        "auditd", framed(2, RECORD)[:-1], "truncated", "ended inside a frame", half_closes=True
    ),
    "auditd record without its rest": Fault(
        "auditd", framed(2, RECORD)[:-1], "slow", "the rest of a frame did not arrive", terms=SHORT_FRAME_TIMEOUT
    ),
}


@asynccontextmanager
async def others(listener: TcpListener) -> AsyncIterator[None]:
    """One sender of each protocol that is connected meanwhile, and answered afterwards."""
    async with connected(listener) as relp, connected(listener) as auditd:
        relp.send(OPEN)
        auditd.send(framed(1, RECORD % 8))
        await hears(relp, OPENED)
        await hears(auditd, framed(1, b"", ACK))
        yield
        relp.send(b"2 syslog 8 <1>other\n")
        auditd.send(framed(2, RECORD % 9))
        await hears(relp, b"2 rsp 6 200 OK\n")
        await hears(auditd, framed(2, b"", ACK))


async def is_reset(sender: Sender) -> bool:
    """Read to the end of the stream; whether it was a reset."""
    try:
        while await sender.reader.read(1 << 16):
            pass
    except ConnectionResetError:
        return True
    return False


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_counted_and_reset_and_disturbs_no_other_stream(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    fault = FAULTS[name]
    caplog.set_level(logging.WARNING, "relay")

    async def scenario() -> None:
        spool = PromptSpool()
        async with (
            listening(spool, fault.terms) as listener,
            others(listener),
            connected(listener) as sender,
        ):
            sender.send(GOOD[fault.protocol] + fault.octets)
            if fault.half_closes:
                sender.half_close()
            assert await is_reset(sender)
            counted = asdict(listener.counters)
            assert counted[fault.counter] == 1
            others_ = {"framing_errors", "truncated", "slow", "lost", "idle", "storage_errors"} - {fault.counter}
            assert not any(counted[each] for each in others_)
            assert (counted["open"], counted["messages"]) == (2, 2)
        assert any(b"<1>ab" in message or b":1): pid=1" in message for message in spool.messages)

    run(scenario)
    (logged,) = caplog.messages
    assert re.search(rf"connection from tcp://127\.0\.0\.1:\d+ aborted: .*{fault.cause}", logged)


def unread(messages: int) -> dict[str, bytes]:
    """A stream of so many messages, of each protocol."""
    return {
        "relp": OPEN + b"".join(b"%d syslog 5 <1>ab\n" % txnr for txnr in range(2, messages)),
        "auditd": b"".join(framed(sequence, RECORD % sequence) for sequence in range(1, messages)),
    }


UNREAD: Final = unread(50_000)
FEW_UNREAD: Final = unread(2_000)


@asynccontextmanager
async def deaf(listener: TcpListener) -> AsyncIterator[Sender]:
    """A sender that reads a few answers and then none, so that its small buffers are full."""
    listener._sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # what it accepts inherits that
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    await asyncio.to_thread(connection.connect, listener.address)
    reader, writer = await asyncio.open_connection(sock=connection, limit=1)
    try:
        yield Sender(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("protocol", UNREAD)
def test_a_sender_that_never_reads_its_answers_is_not_read_and_finally_reset(
    protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "relay")

    async def scenario() -> None:
        spool = PromptSpool()
        async with listening(spool, SHORT_FRAME_TIMEOUT) as listener, others(listener), deaf(listener) as sender:
            sender.send(UNREAD[protocol])
            await until(lambda: listener.counters.slow == 1)
            assert listener.counters.octets < len(UNREAD[protocol])
            assert listener.counters.open == 2

    run(scenario)
    (logged,) = caplog.messages
    assert "answers were not read within 0.3 s" in logged


@pytest.mark.parametrize("protocol", UNREAD)
def test_a_sender_that_does_not_read_its_last_answers_is_reset_although_few_are_unsent(
    protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They fit into the buffer of relay's side of the connection, which a clean close would wait for without end."""
    caplog.set_level(logging.WARNING, "relay")

    async def scenario() -> None:
        spool = PromptSpool()
        async with listening(spool, SHORT_FRAME_TIMEOUT) as listener, deaf(listener) as sender:
            sender.send(FEW_UNREAD[protocol])
            sender.half_close()
            await until(lambda: listener.counters.slow == 1 and listener.counters.open == 0)

    run(scenario)
    (logged,) = caplog.messages
    assert "answers were not read within 0.3 s" in logged


def test_octets_that_only_begin_like_a_dialect_are_syslog_or_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A counted message of one octet begins like RELP; the first octet of garbage like the auditd protocol."""
    caplog.set_level(logging.WARNING, "relay")
    garbage = struct.pack("<I", MAGIC)[:1] + b"\1" * 13

    async def scenario() -> None:
        spool = PromptSpool()
        async with listening(spool, TERMS) as listener, connected(listener) as one, connected(listener) as other:
            one.send(b"1 o" + octet_counted(b"<1>one"))
            one.half_close()
            assert await one.ending() == "closed"
            assert spool.messages == [b"o", b"<1>one"]
            other.send(garbage)
            other.half_close()
            assert await other.ending() == "closed"
            assert spool.messages == [b"o", b"<1>one", garbage]

    run(scenario)
    assert not caplog.messages
