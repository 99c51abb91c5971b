"""Submitting batches one behind the other."""

import asyncio
from collections.abc import Coroutine

import pytest
from source.log_writing import Taken

from relay.errors import StorageError
from relay.source.batch_in_flight import BatchesInTurn, BatchInFlight
from relay.values.event import Batch

EMPTY = Batch(())


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


async def is_waiting(task: "asyncio.Task[object]") -> bool:
    for _ in range(20):
        await asyncio.sleep(0)
    return not task.done()


def test_a_second_batch_waits_for_the_first_and_reports_what_is_durable() -> None:
    async def scenario() -> None:
        taken, durable = Taken(), list[int]()
        taken.hold = True
        in_flight = BatchInFlight(taken.submit)
        await in_flight.submit(EMPTY, lambda: durable.append(1))
        second = asyncio.create_task(in_flight.submit(EMPTY, lambda: durable.append(2)))
        assert await is_waiting(second)
        assert (len(taken.batches), durable, bool(in_flight)) == (2, [], True)
        taken.held[0].set_result(None)
        await second
        assert durable == [1]
        taken.held[1].set_result(None)
        await in_flight.settle()
        assert (durable, bool(in_flight)) == ([1, 2], False)

    run(scenario())


def test_a_failed_batch_fails_the_next_submit_or_settle() -> None:
    async def scenario() -> None:
        taken = Taken()
        taken.hold = True
        in_flight = BatchInFlight(taken.submit)
        await in_flight.submit(EMPTY)
        taken.held[0].set_exception(StorageError("spool", "failed"))
        with pytest.raises(StorageError):
            await in_flight.submit(EMPTY)
        taken.held[1].set_exception(StorageError("spool", "failed"))
        with pytest.raises(StorageError):
            await in_flight.settle()

    run(scenario())


def test_batches_of_several_senders_are_submitted_in_turn_even_after_one_failed() -> None:
    async def scenario() -> None:
        taken = Taken()
        taken.hold = True
        batches = BatchesInTurn(taken.submit)
        await batches.submit(EMPTY)
        others = [asyncio.create_task(batches.submit(EMPTY)) for _ in range(2)]
        assert await is_waiting(others[0])
        assert len(taken.batches) == 1
        others[1].cancel()  # before its turn: it is not submitted
        taken.held[0].set_exception(StorageError("spool", "failed"))
        await others[0]
        closing = asyncio.create_task(batches.close())
        assert await is_waiting(closing)
        taken.held[1].set_result(None)
        await closing
        assert len(taken.batches) == 2

    run(scenario())
