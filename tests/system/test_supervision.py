"""Long-lived work that fails: a thread's work begins anew, and a task's end ends the program."""

import asyncio
import logging
import threading

import pytest

from relay.errors import InternalError
from relay.system.background.supervision import Supervisor, keep_running


def test_the_work_of_a_thread_begins_anew_after_each_bug_until_it_returns(caplog: pytest.LogCaptureFixture) -> None:
    bugs = [ArithmeticError("one"), RuntimeError("two")]

    def work() -> None:
        if bugs:
            raise bugs.pop(0)

    keep_running("the work", work, threading.Event(), pause=0)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(";")[0].split(": ")[-1] for line in lines] == ["one", "two"]
    assert all(line.startswith("the work failed and begins anew in 0 s: a bug") for line in lines)
    assert not any(record.exc_info for record in caplog.records)


def test_work_that_is_stopped_is_not_begun_anew() -> None:
    stopped = threading.Event()

    def work() -> None:
        stopped.set()
        raise ArithmeticError

    keep_running("the work", work, stopped, pause=3600)


@pytest.mark.parametrize("bug", [ArithmeticError("broken"), None])
def test_a_task_that_ends_by_itself_is_a_failure_and_only_the_first_one_counts(
    bug: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def end() -> None:
        if bug is not None:
            raise bug

    async def scenario() -> None:
        supervisor, calls = Supervisor(), list[str]()
        supervisor.on_failure = lambda: calls.append("failed")
        for what in ("the intake", "another"):
            supervisor.watch(what, asyncio.create_task(end()))
        with pytest.raises(InternalError, match="broken" if bug else "it ended by itself") as failed:
            await supervisor.failed
        await asyncio.sleep(0)
        assert failed.value.what == "the intake"
        assert calls == ["failed"]

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    (record,) = caplog.records
    assert record.getMessage().startswith("relay cannot go on and ends: the intake: ")


def test_a_task_that_is_cancelled_is_no_failure() -> None:
    async def scenario() -> None:
        supervisor = Supervisor()
        task = asyncio.create_task(asyncio.Event().wait())
        supervisor.watch("the intake", task)  # type: ignore[arg-type]  # its result does not matter
        task.cancel()
        await asyncio.wait({task})
        await asyncio.sleep(0)
        assert not supervisor.failed.done()

    asyncio.run(scenario())
