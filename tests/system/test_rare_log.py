"""Warnings that may repeat without end, on a clock that the test moves."""

import logging

import pytest

from relay.system.rare_log import RareLog


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
