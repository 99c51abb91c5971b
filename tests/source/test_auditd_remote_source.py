"""The source `auditd-remote`: what the router's own audisp-remote sends, accepted when it is durable and not before."""

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

import pytest
from harness.auditd import AudispRemote
from harness.held_spool import HeldSpool
from harness.leaping_loop import leap, run_leaping
from harness.ports import LOOPBACK, free_port, listens
from harness.waiting import until

from relay.errors import RelayError
from relay.events.audit.mapping import AuditMapping
from relay.source.auditd.auditd_remote import AuditdRemote
from relay.syslog.auditd_remote import MAGIC_OCTETS, AuditdClient, Reply
from relay.values.address import Address
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.event import Batch, EventType

DEADLINE = 20  # seconds
RECORD = b'type=USER_LOGIN msg=audit(1709742929.678:2341): pid=1 acct="root" res=success'


class SoonPromptSpool(HeldSpool):
    """Once `prompt`, it makes everything durable as soon as it comes."""

    prompt = False

    async def submit(self, batch: Batch) -> "asyncio.Future[None]":
        durable = await super().submit(batch)
        if self.prompt:
            self.sync()
        return durable


def source_at(port: int, *, answer_within: float = DEADLINE) -> AuditdRemote:
    mapping = AuditMapping(hostname="combo1", router="combo1", node="test1")
    return AuditdRemote("audisp", (ListenerUrl("tcp", Address(LOOPBACK, port)),), mapping, answer_within=answer_within)


@asynccontextmanager
async def running(source: AuditdRemote, spool: HeldSpool) -> AsyncIterator[None]:
    task = asyncio.create_task(source.run(spool.submit, None, drain=False))
    try:
        await until(lambda: task.done() or listens(source.listen[0].address.port))
        yield
        assert not any(batch.position for batch in spool.batches), "a sender that repeats its records needs no position"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def beat(port: int, times: int) -> None:
    """Be another client, which sends heartbeats and waits for each answer."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    client = AuditdClient()
    for _ in range(times):
        writer.write(client.heartbeat())
        client.receive(await reader.readexactly(16))
    writer.close()


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(scenario)


def test_a_record_is_an_event_with_identity_and_is_acknowledged_after_the_sync() -> None:
    async def scenario() -> None:
        spool, source, client = HeldSpool(), source_at(free_port()), AuditdClient()
        async with running(source, spool):
            reader, writer = await asyncio.open_connection(*source.listen[0].address)
            writer.write(client.heartbeat() + client.message(RECORD))
            assert client.receive(await reader.readexactly(16))[0].sequence == 1
            await until(lambda: spool.events)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(answer := asyncio.ensure_future(reader.readexactly(16))), 0.2)
            spool.sync()
            assert client.receive(await answer) == [Reply(0x40000000, 2)]
            writer.close()
        (event,) = spool.events
        assert event.type is EventType.AUDIT
        assert event.head == b"<110>1 2024-03-06T16:35:29.678Z combo1 auditd - USER_LOGIN [128T"
        assert event.tail.endswith(b'serial="2341" pid="1" acct="root" res="success"] ' + RECORD)

    run(scenario())


def test_an_end_of_event_is_acknowledged_and_not_kept() -> None:
    async def scenario() -> None:
        spool, source, client = HeldSpool(), source_at(free_port()), AuditdClient()
        async with running(source, spool):
            reader, writer = await asyncio.open_connection(*source.listen[0].address)
            writer.write(client.message(RECORD))
            await until(lambda: spool.events)
            writer.write(client.message(b"type=EOE msg=audit(1709742929.678:2341): "))
            spool.sync()
            assert [reply.sequence for reply in client.receive(await reader.readexactly(32))] == [1, 2]
            writer.close()
        assert len(spool.events) == 1

    run(scenario())


def test_nuls_around_a_record_are_padding() -> None:
    async def scenario() -> None:
        spool, source = HeldSpool(), source_at(free_port())
        async with running(source, spool):
            _, writer = await asyncio.open_connection(*source.listen[0].address)
            for sequence, body in enumerate([RECORD + b"\n\0", b"\0\0" + RECORD]):
                writer.write(
                    MAGIC_OCTETS + bytes(6) + len(body).to_bytes(2, "little") + bytes([sequence, 0, 0, 0]) + body
                )
            await until(lambda: len(spool.events) == 2)
            spool.sync()
            writer.close()
        assert all(event.tail.endswith(b"] " + RECORD) for event in spool.events)
        assert source.malformed == 0

    run(scenario())


def test_a_malformed_record_is_kept_marked_and_counted() -> None:
    async def scenario() -> None:
        spool, source, client = HeldSpool(), source_at(free_port()), AuditdClient()
        async with running(source, spool):
            _, writer = await asyncio.open_connection(*source.listen[0].address)
            writer.write(client.message(b"no record \xff"))
            await until(lambda: spool.events)
            spool.sync()
            writer.close()
        assert spool.events[0].tail.endswith(b'malformed="1"] no record \xff')
        assert source.malformed == 1

    run(scenario())


@pytest.mark.parametrize("octets", [RECORD + b"\n", b"1 open 0\n", b"\x16\x03\x01\x00\x00"])
def test_another_protocol_is_broken_off_and_gives_nothing(octets: bytes) -> None:
    async def scenario() -> None:
        spool, source = HeldSpool(), source_at(free_port())
        async with running(source, spool):
            reader, writer = await asyncio.open_connection(*source.listen[0].address)
            writer.write(octets.ljust(16, b"x"))
            async with asyncio.timeout(DEADLINE):
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.transport.abort()
        assert (spool.events, source.counters.framing_errors) == ([], 1)

    run(scenario())


def test_a_drain_returns_without_accepting_what_a_sender_sends() -> None:
    async def scenario() -> None:
        spool, source = HeldSpool(), source_at(free_port())

        async def send() -> None:
            while True:
                with suppress(OSError):
                    reader, writer = await asyncio.open_connection(*source.listen[0].address)
                    writer.write(AuditdClient().message(RECORD))
                    await reader.read()

        sender = asyncio.create_task(send())
        async with asyncio.timeout(DEADLINE):
            await source.run(spool.submit, None, drain=True)
        sender.cancel()
        await asyncio.wait({sender})
        assert (spool.batches, source.counters.connections) == ([], 0)

    run(scenario())


def test_a_port_in_use_is_an_error_at_once() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken, pytest.raises(RelayError, match=r"tcp://127\.0\.0\.1"):
        run(source_at(taken.getsockname()[1]).run(HeldSpool().submit, None, drain=False))


def test_audisp_remote_sends_the_next_record_only_when_the_one_before_is_durable() -> None:
    records = [RECORD.replace(b":2341", b":%d" % serial) for serial in range(5)]

    async def scenario() -> None:
        spool, source = HeldSpool(), source_at(free_port())
        async with running(source, spool):
            with AudispRemote(source.listen[0].address.port) as client:
                client.feed(records)
                for count in range(1, len(records) + 1):
                    await until(lambda: spool.held)
                    assert len(spool.events) == count
                    spool.sync()
        assert [event.tail.rpartition(b"] ")[2] for event in spool.events] == records

    run(scenario())


def test_a_stop_closes_the_connection_and_answers_nothing_that_is_not_durable() -> None:
    """Any other protocol accepts a reset; audisp-remote does not recognize it as the end of its server."""

    async def scenario() -> None:
        spool, source, client = HeldSpool(), source_at(free_port()), AuditdClient()
        async with running(source, spool):
            reader, writer = await asyncio.open_connection(*source.listen[0].address)
            writer.write(client.message(RECORD))
            await until(lambda: spool.held)
        async with asyncio.timeout(DEADLINE):
            assert await reader.read() == b""
        writer.close()

    run(scenario())


def test_a_record_that_is_not_durable_in_time_has_its_stream_closed_and_is_answered_on_none() -> None:
    async def scenario() -> None:
        spool, source, client = SoonPromptSpool(), source_at(free_port(), answer_within=30), AuditdClient()
        async with running(source, spool):
            reader, writer = await asyncio.open_connection(*source.listen[0].address)
            spool.prompt = True
            for _ in range(2):
                writer.write(client.message(RECORD))
                client.receive(await reader.readexactly(16))
            await leap(60)
            assert source.counters.open == 1, "an answered stream stays open"
            spool.prompt = False
            writer.write(client.message(RECORD))
            await until(lambda: spool.held)
            await leap(29)
            assert source.counters.open == 1
            await leap(1)
            async with asyncio.timeout(DEADLINE):
                assert await reader.read() == b""
            spool.sync()
            assert (client.unanswered, len(spool.events), source.counters.unanswered) == (1, 3, 1)
            writer.close()

    run_leaping(scenario)


def test_a_record_that_is_sent_again_and_again_until_the_disk_is_back_is_stored_twice() -> None:
    async def scenario() -> None:
        spool, source = HeldSpool(), source_at(free_port(), answer_within=30)
        message = AuditdClient().message(RECORD)
        async with running(source, spool):
            for stalls in range(5):
                reader, writer = await asyncio.open_connection(*source.listen[0].address)
                writer.write(message)
                if stalls == 2:
                    writer.write_eof()  # as one that gives up first
                await until(lambda: source.counters.octets == (stalls + 1) * len(message))  # noqa: B023  awaited at once
                await leap(31)
                async with asyncio.timeout(DEADLINE):
                    assert await reader.read() == b""
                writer.close()
            await until(lambda: source.counters.open == 0)
            assert len(spool.events) == 1
            reader, writer = await asyncio.open_connection(*source.listen[0].address)
            writer.write(message)
            spool.sync()
            await until(lambda: spool.held)
            spool.sync()
            async with asyncio.timeout(DEADLINE):
                await reader.readexactly(16)
            assert (len(spool.events), source.counters.unanswered) == (2, 5)
            writer.close()

    run_leaping(scenario)


def test_audisp_remote_continues_by_itself_after_a_stall() -> None:
    """Not even another record is needed; the one that was under way may come twice."""
    records = [RECORD.replace(b":2341", b":%d" % serial) for serial in range(5)]

    async def scenario() -> None:
        spool, source = SoonPromptSpool(), source_at(free_port(), answer_within=4)
        brought = len(AuditdClient().message(records[0]))

        async with running(source, spool):
            with AudispRemote(source.listen[0].address.port) as client:
                client.feed(records)
                for stalls in range(3):
                    await until(
                        lambda: (
                            source.counters.connections == stalls + 1  # noqa: B023  it is awaited at once
                            and source.counters.octets >= (stalls + 1) * brought  # noqa: B023  as is this
                        )
                    )
                    await leap(4)
                    assert source.counters.unanswered == stalls + 1
                assert len(spool.events) == 1
                spool.prompt = True
                spool.sync()
                await until(lambda: source.counters.messages > len(records))
        assert [event.tail.rpartition(b"] ")[2] for event in spool.events] == [records[0], *records]

    run_leaping(scenario)


def test_audisp_remote_comes_back_with_its_next_records_after_a_stop() -> None:
    """Had the stop reset it, it would come back only after 30 s without any record: its heartbeat_timeout."""
    records = [RECORD.replace(b":2341", b":%d" % serial) for serial in range(2 * DEADLINE)]
    port = free_port()

    async def scenario() -> None:
        before, after = HeldSpool(), HeldSpool()
        with AudispRemote(port) as client:
            async with running(source_at(port), before):
                client.feed(records[:1])
                await until(lambda: before.held)
                before.sync()
                await beat(port, times=10)  # by then it has its answer
            async with running(source_at(port), after):
                for record in records[1:]:
                    client.feed([record])
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.5):
                            await until(lambda: after.held)
                            break
        assert after.events[0].tail.endswith(records[1])

    run(scenario())
