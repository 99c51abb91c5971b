"""Whether segments may be deleted by age: the wall clock and the boot clock compared."""

import pytest

from relay.program.watch.age_rule import AgeRule
from relay.values.clocks import Clocks

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOON = 1_700_000_000 * SECOND


def settled() -> AgeRule:
    """A day after the beginning: segments may be deleted by age."""
    return AgeRule.begin(Clocks(NOON - DAY, HOUR)).look(Clocks(NOON, DAY + HOUR))


def later(rule: AgeRule, wall: int, boot: int) -> Clocks:
    return Clocks(rule.wall + wall, rule.boot + boot)


def test_nothing_is_deleted_by_age_in_the_first_day() -> None:
    rule = AgeRule.begin(Clocks(NOON, 0))
    assert not rule.may_delete(Clocks(NOON + DAY - 1, DAY - 1))
    assert rule.may_delete(Clocks(NOON + DAY, DAY))


def test_segments_are_deleted_by_age_while_the_clocks_agree() -> None:
    rule = settled()
    for _ in range(100):
        now = later(rule, 3 * HOUR, 3 * HOUR)
        rule = rule.look(now)
        assert rule.may_delete(now)


@pytest.mark.parametrize("jump", [HOUR + 1, -HOUR - 1, 400 * DAY, -400 * DAY])
def test_after_a_jump_of_more_than_an_hour_nothing_is_deleted_for_a_day_of_the_boot_clock(jump: int) -> None:
    rule = settled()
    now = later(rule, MINUTE + jump, MINUTE)
    rule = rule.look(now)
    assert not rule.may_delete(now)
    assert not rule.look(later(rule, DAY - 1, DAY - 1)).may_delete(later(rule, DAY - 1, DAY - 1))
    assert rule.look(later(rule, DAY, DAY)).may_delete(later(rule, DAY, DAY))


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_of_an_hour_is_tolerated(jump: int) -> None:
    rule = settled()
    now = later(rule, MINUTE + jump, MINUTE)
    assert rule.look(now).may_delete(now)


def test_many_small_jumps_add_up_to_a_large_one() -> None:
    rule = settled()
    counts = []
    for _ in range(7):
        now = later(rule, 2 * HOUR + 10 * MINUTE, 2 * HOUR)
        rule = rule.look(now)
        counts.append(rule.may_delete(now))
    assert counts == [True] * 6 + [False]  # the seventh ten minutes are more than an hour


def test_a_second_jump_begins_the_day_anew() -> None:
    rule = settled()
    rule = rule.look(later(rule, DAY, MINUTE))
    now = later(rule, 20 * HOUR - 2 * DAY, 20 * HOUR)
    rule = rule.look(now)
    assert not rule.may_delete(later(rule, 23 * HOUR, 23 * HOUR))


def test_the_day_continues_however_often_the_rule_is_asked() -> None:
    rule = AgeRule.begin(Clocks(NOON, 0))
    for minute in range(24 * 60 + 1):
        now = Clocks(NOON + minute * MINUTE, minute * MINUTE)
        rule = rule.look(now)
        assert rule.may_delete(now) == (minute == 24 * 60)


def test_a_short_reboot_does_not_begin_the_day_anew() -> None:
    rule = settled()
    now = Clocks(rule.wall + 5 * MINUTE, 2 * MINUTE)
    assert rule.look(now).may_delete(now)


def test_the_day_continues_over_a_reboot() -> None:
    rule = AgeRule.begin(Clocks(NOON, 10 * HOUR)).look(Clocks(NOON + 10 * HOUR, 20 * HOUR))
    rule = rule.look(Clocks(rule.wall + 5 * MINUTE, 2 * MINUTE))
    assert rule.hold == 14 * HOUR - 2 * MINUTE


@pytest.mark.parametrize("wall", [NOON + 62 * MINUTE, NOON + 400 * DAY, 0, NOON - 59 * MINUTE])
def test_a_wall_clock_that_a_reboot_does_not_explain_begins_the_day_anew(wall: int) -> None:
    now = Clocks(wall, MINUTE)
    assert settled().look(now).may_delete(now) == (wall == NOON - 59 * MINUTE)


def test_the_rule_changes_every_quarter_of_an_hour_at_most() -> None:
    rule = settled()
    assert rule.look(later(rule, 14 * MINUTE, 14 * MINUTE)) is rule
    assert rule.look(later(rule, 15 * MINUTE, 15 * MINUTE)) != rule


def test_the_rule_survives_a_restart_and_an_unreadable_slot_begins_the_day_anew() -> None:
    rule = settled()
    now = Clocks(NOON, DAY)
    assert AgeRule.decode(rule.encode(), now) == rule
    for data in (None, b"", b"{}", b"\xff", b"[]"):
        assert not AgeRule.decode(data, now).may_delete(now)
