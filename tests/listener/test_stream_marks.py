"""What a stream's reception notes about messages and their sender, over real sockets."""

import logging

import pytest
from harness.held_spool import HeldSpool, PromptSpool
from harness.waiting import until
from listener.test_tcp_listener import connected, listening, run

from relay.listener.conversation import ALL
from relay.listener.stream import StreamTerms
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
            assert listener.counters.oversized == 2
            assert listener.counters.dropped_octets == 300_001 + 2001 - 2 * 1024
            assert spool.messages == [b"<" + 1023 * b"x", b"<1>one", b"<" + 1023 * b"y"]
            cut, unterminated = ReceiptMark.CUT, ReceiptMark.UNTERMINATED
            assert [event.marks for event in spool.events] == [cut, 0, cut | unterminated]

    run(scenario)
    (logged,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert logged.startswith("messages longer than max-message-size (1KiB) are cut: 1 message so far, the last one ")


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
