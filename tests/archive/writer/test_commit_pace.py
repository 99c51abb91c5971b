"""When the archive commits."""

import pytest

from relay.archive.writer.commit_pace import AT_ONCE, MAX_PENDING, CommitPace


def commits(seconds: float, duration: float, pending: int = 1, pace: CommitPace | None = None) -> list[float]:
    """When commits begin while messages always wait; each takes so long."""
    pace = pace or CommitPace()
    begun, now = [], 0.0
    while now < seconds:
        if pace.is_due(now, pending):
            begun.append(now)
            pace.note(now, now + duration)
            now += duration
        now += 0.01
    return begun


def test_the_first_commits_are_made_at_once_and_then_one_a_second() -> None:
    begun = commits(30, 0.001)
    assert sum(time < 0.5 for time in begun) == AT_ONCE
    assert sum(10 <= time < 30 for time in begun) == pytest.approx(20, abs=1)


def test_after_a_pause_a_message_is_committed_at_once() -> None:
    pace = CommitPace()
    commits(20, 0.001, pace=pace)
    assert pace.is_due(22.0, 1)


def test_commits_never_take_more_than_half_of_the_time() -> None:
    begun = commits(60, 2.0, pending=MAX_PENDING)
    assert len(begun) <= 16


def test_much_that_waits_is_committed_sooner() -> None:
    assert len(commits(10, 0.05, pending=MAX_PENDING)) > 80
