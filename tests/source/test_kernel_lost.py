"""Records that the kernel drops become gaps: once each, across restarts, boots and counters set to zero."""

import asyncio

import pytest
from harness.waiting import until
from source.log_writing import Taken

from relay.errors import PermissionRefusedError, RelayError, StorageError
from relay.events.own_events import Author
from relay.source.auditd.kernel_lost import KernelLost
from relay.spool.losses.gap import reported_gap
from relay.values.event import Batch, EventType, Position

AUTHOR = Author("combo1", "combo1", "test1", "128T")


class Kernel:
    """A count that the test sets, or the error that reading it raises."""

    def __init__(self, answer: int | RelayError) -> None:
        self.answer = answer
        self.asked = 0

    def read(self) -> int:
        self.asked += 1
        if isinstance(self.answer, RelayError):
            raise self.answer
        return self.answer


def look(answer: int, position: Position | None, boot: str = "boot 1") -> Taken:
    taken = Taken()
    source = KernelLost(AUTHOR, boot, Kernel(answer).read)
    asyncio.run(source.run(taken.submit, position, drain=True))
    return taken


def lost_in(taken: Taken) -> list[int]:
    gaps = [reported_gap(event.head + event.tail) for event in taken.events]
    assert all(event.type is EventType.RELAY for event in taken.events)
    return [gap.events for gap in gaps if gap is not None]


def test_without_a_loss_nothing_is_reported() -> None:
    assert look(0, None).batches == []


def test_records_lost_in_this_boot_before_the_first_look_are_reported() -> None:
    assert lost_in(look(40, None)) == [40]


def test_records_lost_between_two_runs_are_reported_once() -> None:
    first = look(40, None)
    second = look(47, first.position)
    assert lost_in(second) == [7]
    assert look(47, second.position).batches == []


def test_a_new_boot_counts_from_zero() -> None:
    first = look(40, None)
    assert lost_in(look(50, first.position, boot="boot 2")) == [50]


def test_a_count_that_was_set_to_zero_counts_from_nothing() -> None:
    first = look(40, None)
    assert lost_in(look(3, first.position)) == [3]


def test_a_count_that_was_set_to_zero_while_it_was_watched_counts_from_nothing() -> None:
    kernel = Kernel(40)
    taken = Taken()

    async def play() -> None:
        source = KernelLost(AUTHOR, "boot 1", kernel.read, interval_s=0.001)
        running = asyncio.create_task(source.run(taken.submit, None, drain=False))
        await until(lambda: len(taken.batches) == 1)
        kernel.answer = 0
        await until(lambda: len(taken.batches) == 2)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(play())
    assert lost_in(look(41, taken.position)) == [41]


def test_the_event_names_the_cause_and_the_number() -> None:
    (event,) = look(12, look(5, None).position).events
    assert event.tail == (
        b' type="relay" router="combo1" node="test1" source="kernel" cause="the kernel dropped audit records"'
        b' events="7" unnamed="7"] nobody will get 7 audit records: the kernel dropped them'
    )


def test_a_loss_that_was_not_accepted_is_reported_again() -> None:
    first = look(2, None)

    async def refuse(_: Batch) -> asyncio.Future[None]:
        raise StorageError("spool", "full")

    with pytest.raises(StorageError):
        asyncio.run(KernelLost(AUTHOR, "boot 1", Kernel(9).read).run(refuse, first.position, drain=True))
    assert lost_in(look(9, first.position)) == [7]


def test_without_the_right_it_says_so_once_and_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    refused = PermissionRefusedError("the kernel's audit subsystem", "its state may not be read")
    kernel = Kernel(refused)
    source = KernelLost(AUTHOR, "boot 1", kernel.read, interval_s=0.001)
    taken = Taken()

    async def play() -> None:
        running = asyncio.create_task(source.run(taken.submit, None, drain=False))
        await until(lambda: kernel.asked > 2)
        assert source.last_error == str(refused)
        kernel.answer = 5
        await until(lambda: len(taken.events) == 1)
        assert not source.last_error
        kernel.answer = 9
        await until(lambda: len(taken.events) == 2)
        assert not source.last_error
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(play())
    assert lost_in(taken) == [5, 4]
    assert caplog.text.count("are not counted") == 1


def test_a_position_that_cannot_be_read_is_as_good_as_none() -> None:
    assert lost_in(look(7, Position("kernel audit", 3, b"\xff"))) == [7]
