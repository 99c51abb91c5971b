"""Warnings that may repeat without end, on a clock that the test moves."""

import logging

import pytest

from relay.system.rare_log import MOST_KINDS, RareLog


def test_a_kind_is_logged_once_a_minute_with_the_count_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    rare = RareLog(logging.getLogger("relay.test"), monotonic=lambda: now)
    rare.warn("cut", "cut %d", 1)
    rare.warn("cut", "cut %d", 2)
    rare.warn("other", "other")
    now += 59
    rare.warn("cut", "cut %d", 3)
    now += 1
    rare.warn("cut", "cut %d", 4)
    now += 60
    rare.warn("cut", "cut %d", 5)
    assert caplog.messages == ["cut 1", "other", "cut 4 (and 2 more since the last line)", "cut 5"]


def test_beyond_the_ceiling_all_other_kinds_are_one_until_their_minute_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 1000.0
    rare = RareLog(logging.getLogger("relay.test"), monotonic=lambda: now)
    logged = [rare.warn(f"192.0.2.{number}", "%d", number) for number in range(MOST_KINDS + 5)]
    assert logged == [True] * (MOST_KINDS + 1) + [False] * 4
    now += 60
    assert rare.warn("another", "another")
    assert rare.warn("192.0.2.1", "again")
    assert caplog.messages[-2:] == ["another", "again"]
    assert len(rare._next) == 3
