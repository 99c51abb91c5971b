"""The intake: numbering, group commit, positions, and what a crash between its two fsyncs leaves."""

import asyncio
import functools
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from harness.waiting import until

from relay.errors import StorageError, TemporaryError
from relay.events import own_events
from relay.program.intake import DEFAULT_LIMITS, Intake, IntakeLimits
from relay.spool.block import Block, Span
from relay.spool.commit import Routing
from relay.spool.spool import RunSeed, Spool
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store
from relay.system.disk import Disk, File
from relay.values.event import Batch, Event, EventType, Position
from relay.values.provenance import Provenance, ReceiptMark

ROUTING = Routing(
    retained=frozenset({EventType.AUDIT, EventType.RELAY}),
    transient=frozenset({EventType.TRAFFIC}),
)
FIRST = RunSeed(b"\x00" * 7 + b"\x01", b"s" * 16)
SECOND = RunSeed(b"\x00" * 7 + b"\x02", b"t" * 16)


def store(folder: Path, run: RunSeed = FIRST, disk: Disk | None = None) -> Store:
    return Store(disk or Disk(), str(folder), segment_size=64 * 1024, max_size=1 << 30, run=run)


def event(kind: EventType, text: str) -> Event:
    return Event(kind, 1_000_000, b"<110>1 - h auditd - - [128T", b' type="audit"] ' + text.encode())


gap_event = functools.partial(own_events.gap, own_events.Author("h", "h", "", "128T"))


def batch(*events: Event, reached: int) -> Batch:
    return Batch(events, Position("audit", reached, b"%d" % reached))


def read(spool: Spool) -> list[tuple[EventType, int, bytes]]:
    reader = SpoolReader(spool, 1)
    blocks = list(iter(reader.read, None))
    reader.close()
    return [message for block in blocks if isinstance(block, Block) for message in block.messages()]


def texts(spool: Spool) -> list[bytes]:
    return [message.rpartition(b" ")[2] for _, _, message in read(spool)]


def working(opened: Store, body: Callable[[Intake], Awaitable[None]], limits: IntakeLimits = DEFAULT_LIMITS) -> None:
    """Run `body` with an intake that commits."""

    async def main() -> None:
        intake = Intake(opened, ROUTING, gap_event, interval=0.001, clock=lambda: 5_000_000, limits=limits)
        committing = asyncio.create_task(intake.run())
        try:
            await asyncio.wait_for(body(intake), 20)
        finally:
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)

    with opened:
        asyncio.run(main())


def test_an_event_is_durable_with_its_identity_and_its_sources_position(tmp_path: Path) -> None:
    async def body(intake: Intake) -> None:
        await (await intake.submit(batch(event(EventType.AUDIT, "one"), event(EventType.AUDIT, "two"), reached=2)))

    working(store(tmp_path), body)
    with store(tmp_path, SECOND) as again:
        assert read(again.retained) == [
            (
                EventType.AUDIT,
                number,
                b'<110>1 - h auditd - - [128T relayRun="0000000000000001" relaySeq="%d" type="audit"] %b'
                % (number, text),
            )
            for number, text in ((1, b"one"), (2, b"two"))
        ]
        assert again.position("audit") == Position("audit", 2, b"2")


def test_a_message_of_another_program_is_kept_byte_for_byte(tmp_path: Path) -> None:
    raw = b"<13>1 - - - - - - \xff\x00\n whatever"

    async def body(intake: Intake) -> None:
        await (await intake.submit(Batch([Event(EventType.AUDIT, 1, raw)])))

    opened = store(tmp_path)
    working(opened, body)
    with store(tmp_path, SECOND) as again:
        assert read(again.retained) == [(EventType.AUDIT, 1, raw)]


def test_numbers_count_within_run_and_type(tmp_path: Path) -> None:
    mixed = [event(EventType.AUDIT, "a"), event(EventType.TRAFFIC, "t"), event(EventType.AUDIT, "b")]

    async def first(intake: Intake) -> None:
        await (await intake.submit(batch(*mixed, reached=3)))

    async def second(intake: Intake) -> None:
        await (await intake.submit(batch(*mixed, reached=6)))

    working(store(tmp_path), first)
    working(store(tmp_path, SECOND), second)
    with store(tmp_path) as again:
        assert [(kind, number) for kind, number, _ in read(again.retained)] == [
            (EventType.AUDIT, n) for n in (1, 2, 1, 2)
        ]
        assert [(kind, number) for kind, number, _ in read(again.transient)] == [(EventType.TRAFFIC, n) for n in (1, 1)]


def test_types_that_no_spool_accepts_are_left_out_and_the_position_moves(tmp_path: Path) -> None:
    async def body(intake: Intake) -> None:
        await (await intake.submit(batch(event(EventType.ADMIN, "off"), reached=1)))

    working(store(tmp_path), body)
    with store(tmp_path, SECOND) as again:
        assert read(again.retained) == []
        assert again.position("audit") == Position("audit", 1, b"1")


def test_batches_that_arrive_together_are_committed_together(tmp_path: Path) -> None:
    async def body(intake: Intake) -> None:
        pending = [await intake.submit(batch(event(EventType.AUDIT, str(n)), reached=n)) for n in range(1, 101)]
        await asyncio.gather(*pending)

    working(store(tmp_path), body)
    with store(tmp_path, SECOND) as again:
        assert texts(again.retained) == [b"%d" % n for n in range(1, 101)]
        assert again.retained.next_number <= 4


class _StubbornFile(File):
    def __init__(self, file: File, disk: "_StubbornDisk") -> None:
        super().__init__(file.path, file.descriptor)
        self._disk = disk

    def sync(self) -> None:
        if "segment" in self.path:
            self._disk.moves.wait(20)
        if "segment" in self.path and self._disk.failures:
            self._disk.failures -= 1
            raise StorageError(self.path, "fdatasync failed: No space left on device")
        super().sync()


class _StubbornDisk(Disk):
    """A real disk on which so many syncs of segments fail, and which stalls while `moves` is not set."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.moves = threading.Event()
        self.moves.set()

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        return _StubbornFile(super().open(path, create=create, writable=writable), self)


def test_while_the_disk_fails_nothing_is_accepted_and_then_everything_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = _StubbornDisk(failures=5)
    seen: list[bool] = []

    async def body(intake: Intake) -> None:
        durable = await intake.submit(batch(event(EventType.AUDIT, "one"), event(EventType.TRAFFIC, "t"), reached=2))
        await until(lambda: intake.error is not None)
        seen.append(durable.done())
        seen.append(intake.writable.is_set())
        await durable
        await until(intake.writable.is_set)
        seen.append(intake.error is None)

    working(store(tmp_path, disk=disk), body, IntakeLimits(retry_seconds=0.01))
    assert (seen, disk.failures) == ([False, False, True], 0)
    with store(tmp_path, SECOND) as again:
        assert (texts(again.retained), texts(again.transient)) == ([b"one"], [b"t"])
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_disk_that_stalls_counts_as_not_writable(tmp_path: Path) -> None:
    """Listeners then queue no record that its sender sends again after each of its own timeouts."""
    disk = _StubbornDisk(failures=0)

    async def body(intake: Intake) -> None:
        disk.moves.clear()
        durable = await intake.submit(batch(event(EventType.AUDIT, "one"), reached=1))
        await until(lambda: not intake.writable.is_set())
        assert (durable.done(), intake.error) == (False, None)
        disk.moves.set()
        await durable
        await until(intake.writable.is_set)

    working(store(tmp_path, disk=disk), body, IntakeLimits(stall_seconds=0.01))


def test_after_a_crash_between_the_two_fsyncs_the_event_is_neither_lost_nor_numbered_twice(tmp_path: Path) -> None:
    """The transient spool is ahead of the positions; the source delivers the events again."""
    events = [event(EventType.AUDIT, "a"), event(EventType.TRAFFIC, "t"), event(EventType.AUDIT, "b")]

    async def first(intake: Intake) -> None:
        await (await intake.submit(batch(event(EventType.AUDIT, "0"), reached=1)))
        intake._store.retained.append = _crash  # type: ignore[method-assign, assignment]  # the crash between the two
        await intake.submit(batch(*events, reached=4))
        await until(lambda: intake._store.transient.last is not None)

    working(store(tmp_path), first)
    with store(tmp_path, SECOND) as between:
        assert between.position("audit") == Position("audit", 1, b"1")
        assert texts(between.transient) == [b"t"]

    async def second(intake: Intake) -> None:
        await (await intake.submit(batch(*events, reached=4)))
        await (await intake.submit(batch(event(EventType.TRAFFIC, "u"), reached=5)))

    working(store(tmp_path, SECOND), second)
    with store(tmp_path, RunSeed(b"3" * 8, b"u" * 16)) as again:
        assert texts(again.retained) == [b"0", b"a", b"b"]
        assert texts(again.transient) == [b"t", b"u"]
        assert again.position("audit") == Position("audit", 5, b"5")


def _crash(*_: object) -> None:
    raise StorageError("spool", "the power is gone")


def test_a_source_waits_at_the_limit_of_pending_octets(tmp_path: Path) -> None:
    big = event(EventType.AUDIT, "x" * (DEFAULT_LIMITS.pending // 4))

    async def main(opened: Store) -> None:
        intake = Intake(opened, ROUTING, gap_event, interval=0.001)
        for number in range(1, 5):
            await asyncio.wait_for(intake.submit(batch(big, reached=number)), 5)
        waiting = asyncio.create_task(_submit(intake, batch(big, reached=5)))
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
        committing = asyncio.create_task(intake.run())
        await asyncio.wait_for(await asyncio.wait_for(waiting, 10), 10)
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)

    with store(tmp_path) as opened:
        asyncio.run(main(opened))
        assert opened.position("audit") == Position("audit", 5, b"5")


async def _submit(intake: Intake, given: Batch) -> "asyncio.Future[None]":
    return await intake.submit(given)


def test_a_second_relay_is_refused_and_the_first_ones_pid_is_named(tmp_path: Path) -> None:
    with store(tmp_path), pytest.raises(TemporaryError, match=f"pid {os.getpid()}"):
        store(tmp_path)


def test_a_batch_that_is_awaited_does_not_wait_for_the_commit_interval(tmp_path: Path) -> None:
    """Otherwise a sender that waits for each answer would get one record accepted in each interval."""
    with store(tmp_path) as opened:

        async def story() -> None:
            intake = Intake(opened, ROUTING, gap_event, interval=3600.0)
            task = asyncio.create_task(intake.run())
            for _ in range(20):
                await (await intake.submit(Batch([event(EventType.AUDIT, "x")], awaited=True)))
            unhurried = await intake.submit(Batch([event(EventType.AUDIT, "y")]))
            assert not unhurried.done()
            await (await intake.submit(Batch([event(EventType.AUDIT, "z")], awaited=True)))
            assert unhurried.done()  # it shares the commit
            task.cancel()

        asyncio.run(asyncio.wait_for(story(), 20))
        assert texts(opened.retained) == [*[b"x"] * 20, b"y", b"z"]


ONE = Provenance("10.0.0.1", "", "udp://0.0.0.0:514")
OTHER = Provenance("10.0.0.2", "SHA256:abc", "tcp://0.0.0.0:514", "relp")


def received(text: str, marks: int = 0, kind: EventType = EventType.AUDIT) -> Event:
    return Event(kind, 1_000_000, text.encode(), marks=marks)


def test_a_commit_keeps_each_senders_messages_together_and_in_their_order(tmp_path: Path) -> None:
    given = [
        Batch([received("a1"), received("a2")], provenance=ONE),
        Batch([received("b1"), received("b2", ReceiptMark.CUT)], provenance=OTHER),
        batch(event(EventType.AUDIT, "own"), reached=1),
        Batch([received("a3"), received("a4", ReceiptMark.CUT), received("a5")], provenance=Provenance(*ONE)),
        Batch([received("b3", ReceiptMark.CUT), received("t1", kind=EventType.TRAFFIC)], provenance=OTHER),
    ]

    async def body(intake: Intake) -> None:
        await asyncio.gather(*[await intake.submit(each) for each in given])

    opened = store(tmp_path)
    working(opened, body)
    (block,) = [each for each in iter(SpoolReader(opened.retained, 1).read, None) if isinstance(each, Block)]
    assert [(span.provenance, span.marks, span.first, found) for span, found in block.by_span()][:-1] == [
        (ONE, 0, 1, [b"a1", b"a2", b"a3"]),
        (ONE, ReceiptMark.CUT, 4, [b"a4"]),
        (ONE, 0, 5, [b"a5"]),
        (OTHER, 0, 6, [b"b1"]),
        (OTHER, ReceiptMark.CUT, 7, [b"b2", b"b3"]),
    ]
    assert block.header.spans[-1] == Span(EventType.AUDIT, 9, 1)
    assert [span.provenance for span in SpoolReader(opened.transient, 1).read().header.spans] == [OTHER]  # type: ignore[union-attr]
