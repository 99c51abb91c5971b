"""What a stream's reception notes about messages and their sender, over real sockets."""

import asyncio
import logging
import struct

import pytest
from harness.held_spool import HeldSpool, PromptSpool
from harness.waiting import until
from listener.test_tcp_listener import connected, listening, run

from relay.listener.conversation import ALL
from relay.listener.reception.stream_terms import StreamTerms
from relay.syslog.framing import octet_counted
from relay.values.provenance import Provenance, ReceiptMark


def test_an_oversized_message_is_cut_marked_counted_and_logged_once_and_the_stream_continues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        terms = StreamTerms(max_message_size=1024)
        async with listening(spool, terms) as listener, connected(listener) as sender:
            sender.send(octet_counted(b"<" + 300_000 * b"x") + octet_counted(b"<1>one") + b"<" + 2000 * b"y")
            sender.half_close()
            assert await sender.ending() == "closed"
            assert listener.counters.cut == 2
            assert listener.counters.dropped_octets == 300_001 + 2001 - 2 * 1024
            assert spool.messages == [b"<" + 1023 * b"x", b"<1>one", b"<" + 1023 * b"y"]
            cut, unterminated = ReceiptMark.CUT, ReceiptMark.UNTERMINATED
            assert [event.marks for event in spool.events] == [cut, 0, cut | unterminated]

    run(scenario)
    (logged,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert logged.startswith("messages longer than max-message-size (1KiB) are cut: 1 message so far, the last one ")


def test_what_came_of_a_long_counted_message_is_kept_and_its_stream_is_reset() -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        async with listening(spool, StreamTerms(max_message_size=9)) as listener, connected(listener) as sender:
            sender.send(b"4 <1>a999999999 <1>long and longer")
            sender.half_close()
            assert await sender.ending() == "reset"
            assert (listener.counters.cut, listener.counters.truncated) == (1, 1)
            marks = ReceiptMark.CUT | ReceiptMark.UNTERMINATED
            assert [(event.head, event.marks) for event in spool.events] == [(b"<1>a", 0), (b"<1>long a", marks)]

    run(scenario)


def test_the_last_line_without_its_trailer_is_durable_before_the_close() -> None:
    async def scenario() -> None:
        spool = HeldSpool()
        async with listening(spool) as listener, connected(listener) as sender:
            sender.send(b"<1>one")
            sender.half_close()
            await until(lambda: spool.held)
            assert await sender.still_open()
            spool.sync()
            assert await sender.ending() == "closed"
            assert [(event.head, event.marks) for event in spool.events] == [(b"<1>one", ReceiptMark.UNTERMINATED)]

    run(scenario)


def test_every_batch_has_its_senders_provenance() -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        terms = StreamTerms(dialects=ALL, listener="tcp://0.0.0.0:514")
        async with listening(spool, terms) as listener, connected(listener) as one, connected(listener) as other:
            one.send(b"<1>one\n")
            await until(lambda: spool.batches)
            other.send(b"1 open 30 relp_version=0\ncommands=syslog\n2 syslog 5 <1>ab\n")
            await until(lambda: len(spool.batches) == 2)
            assert [batch.provenance for batch in spool.batches] == [
                Provenance("127.0.0.1", "", "tcp://0.0.0.0:514", "syslog"),
                Provenance("127.0.0.1", "", "tcp://0.0.0.0:514", "relp"),
            ]

    run(scenario)


@pytest.mark.parametrize("line", [b"<1>two", b"GET the door"])
def test_a_line_whose_trailer_never_comes_is_kept_and_its_sender_reset(line: bytes) -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        terms = StreamTerms(frame_timeout=0.1)
        async with listening(spool, terms) as listener, connected(listener) as sender:
            sender.send(line)
            assert await sender.ending() == "reset"
            assert listener.counters.slow == 1
            assert [(event.head, event.marks) for event in spool.events] == [(line, ReceiptMark.UNTERMINATED)]

    run(scenario)


def test_line_ends_before_the_first_message_do_not_make_a_sender_slow() -> None:
    async def scenario() -> None:
        terms = StreamTerms(frame_timeout=0.05)
        async with listening(PromptSpool(), terms) as listener, connected(listener) as sender:
            sender.send(b"\r\n")
            assert await sender.still_open()
            assert listener.counters.slow == 0

    run(scenario)


# --- While the spool cannot be written ---

OPEN = b"1 open 30 relp_version=0\ncommands=syslog\n"
RECORD = struct.pack("<IBBIHI", 0xFF0000FE, 0, 0, 0, 33, 7) + b"type=LOGIN msg=audit(1.000:1): x="


def unwritable() -> tuple[asyncio.Event, StreamTerms]:
    writable = asyncio.Event()
    return writable, StreamTerms(dialects=ALL, writable=writable, answer_within=0.2)


def test_streams_are_read_and_answered_only_when_the_spool_can_be_written_again() -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        writable, terms = unwritable()
        async with listening(spool, terms) as listener, connected(listener) as lines, connected(listener) as relp:
            lines.send(b"<1>one\n")
            relp.send(OPEN + b"2 syslog 5 <1>ab\n3 close 0\n")
            lines.half_close()
            assert await lines.still_open()
            assert not spool.batches
            writable.set()
            assert await lines.ending() == "closed"
            assert await relp.ending() == "answered"
            assert sorted(spool.messages) == [b"<1>ab", b"<1>one"]

    run(scenario)


def test_a_stream_is_not_read_on_while_the_spool_cannot_be_written() -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        writable, terms = unwritable()
        async with listening(spool, terms) as listener, connected(listener) as sender:
            writable.set()
            sender.send(b"<1>one\n")
            await until(lambda: spool.batches)
            writable.clear()
            await until(lambda: listener.counters.octets == 7)
            sender.send(b"<1>two\n")  # the read that has begun
            await until(lambda: listener.counters.octets == 14)
            sender.send(b"<1>three\n")
            assert await sender.still_open()
            assert listener.counters.octets == 14
            assert spool.messages == [b"<1>one"]
            writable.set()
            await until(lambda: spool.messages == [b"<1>one", b"<1>two", b"<1>three"])

    run(scenario)


def test_an_auditd_sender_is_closed_unanswered_and_what_it_sends_again_is_stored_once() -> None:
    """Otherwise audisp-remote would connect again only after a time without any record."""

    async def scenario() -> None:
        spool = PromptSpool()
        writable, terms = unwritable()
        async with listening(spool, terms) as listener:
            for _ in range(3):
                async with connected(listener) as sender:
                    sender.send(RECORD)
                    assert await sender.ending() == "closed"
            assert listener.counters.unanswered == 3
            writable.set()
            async with connected(listener) as sender:
                sender.send(RECORD)
                await until(lambda: len(spool.messages) == 1)
                assert await sender.reader.readexactly(16) == struct.pack("<IBBIHI", 0xFF0000FE, 0, 0, 0x40000000, 0, 7)

    run(scenario)


def test_a_relp_sender_that_gives_up_meanwhile_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        _, terms = unwritable()
        async with listening(spool, terms) as listener:
            async with connected(listener) as sender:
                sender.send(OPEN + b"2 syslog 5 <1>ab\n" + b"3 syslog 100000 " + b"x" * 500_000)
                await until(lambda: listener.counters.octets)
            await until(lambda: listener.counters.open == 0)
            assert not spool.batches

    run(scenario)
