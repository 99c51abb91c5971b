"""The source `auditd-remote`: what the router's own audisp-remote sends, accepted when it is durable and not before."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

import pytest
from harness.auditd import AudispRemote
from harness.ports import LOOPBACK, free_port

from relay.audit.mapping import AuditMapping
from relay.errors import RelayError
from relay.event import Batch, Event, EventType
from relay.quantity import Address
from relay.source.auditd_remote import AuditdRemote
from relay.syslog.auditd_remote import AuditdClient, Reply

DEADLINE = 20  # seconds
RECORD = b'type=USER_LOGIN msg=audit(1709742929.678:2341): pid=1 acct="root" res=success'


class HeldSpool:
    """Takes batches in, and says "durable" when the test says so."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.held: list[asyncio.Future[None]] = []

    async def submit(self, batch: Batch) -> "asyncio.Future[None]":
        assert batch.position is None
        self.events += batch.events
        durable = asyncio.get_running_loop().create_future()
        self.held.append(durable)
        return durable

    def sync(self) -> None:
        for durable in self.held:
            durable.set_result(None)
        self.held.clear()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 -- any condition, not only what could set an Event
            await asyncio.sleep(0.002)


def source_at(port: int) -> AuditdRemote:
    mapping = AuditMapping(hostname="combo1", router="combo1", node="test1")
    return AuditdRemote("audisp", (Address(LOOPBACK, port),), mapping)


@asynccontextmanager
async def running(source: AuditdRemote, spool: HeldSpool) -> AsyncIterator[None]:
    task = asyncio.create_task(source.run(spool.submit, None, drain=False))
    try:
        await until(lambda: task.done() or _listens(source.listen[0]))
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _listens(address: Address) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address.host, address.port))
        except OSError:
            return True
    return False


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(scenario)


def test_a_record_is_an_event_with_identity_and_is_acknowledged_after_the_sync() -> None:
    async def scenario() -> None:
        spool, source, client = HeldSpool(), source_at(free_port()), AuditdClient()
        async with running(source, spool):
            reader, writer = await asyncio.open_connection(*source.listen[0])
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


def test_what_is_no_record_is_kept_marked_and_counted() -> None:
    async def scenario() -> None:
        spool, source, client = HeldSpool(), source_at(free_port()), AuditdClient()
        async with running(source, spool):
            _, writer = await asyncio.open_connection(*source.listen[0])
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
            reader, writer = await asyncio.open_connection(*source.listen[0])
            writer.write(octets.ljust(16, b"x"))
            async with asyncio.timeout(DEADLINE):
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.transport.abort()
        assert (spool.events, source.counters.framing_errors) == ([], 1)

    run(scenario())


def test_a_drain_takes_nothing_in_and_returns() -> None:
    run(source_at(1).run(HeldSpool().submit, None, drain=True))


def test_a_port_that_is_taken_is_told_at_once() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken, pytest.raises(RelayError, match=r"tcp://127\.0\.0\.1"):
        run(source_at(taken.getsockname()[1]).run(HeldSpool().submit, None, drain=False))


def test_audisp_remote_sends_the_next_record_only_when_the_one_before_is_durable() -> None:
    records = [RECORD.replace(b":2341", b":%d" % serial) for serial in range(5)]

    async def scenario() -> None:
        spool, source = HeldSpool(), source_at(free_port())
        async with running(source, spool):
            with AudispRemote(source.listen[0].port) as client:
                client.feed(records)
                for count in range(1, len(records) + 1):
                    await until(lambda: spool.held)
                    assert len(spool.events) == count
                    spool.sync()
        assert [event.tail.rpartition(b"] ")[2] for event in spool.events] == records

    run(scenario())
