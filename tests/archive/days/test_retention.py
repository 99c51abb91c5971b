"""What retention removes, by pure rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.archive.days.retention import (
    OldestDays,
    RetentionTerms,
    StoredDay,
    is_past,
    may_be_compressed,
    removal_cause,
)
from relay.archive.layout import begin_of
from relay.program.watch.age_rule import HOLD, AgeRule
from relay.values.clocks import Clocks

DAY = 86_400_000_000


def _day(day: str, *, part: int = 1, folder: str = "/a/fw1", octets: int = 10) -> StoredDay:
    return StoredDay(day, part, folder, f"{day}.ledger", (f"{day}.log",), octets)


@given(st.lists(st.tuples(st.integers(1, 28), st.integers(1, 3), st.sampled_from(["/a/x", "/a/y"]))), st.integers(1, 9))
def test_the_oldest_of_all_days_are_remembered(drawn: list[tuple[int, int, str]], limit: int) -> None:
    days = [_day(f"2026-11-{day:02}", part=part, folder=folder) for day, part, folder in drawn]
    oldest = OldestDays(limit)
    for each in days:
        oldest.add(each)
    assert list(oldest) == sorted(days)[:limit]
    assert oldest.full == (len(days) >= limit)


@pytest.mark.parametrize(
    ("terms", "total", "by_age", "cause"),
    [
        (RetentionTerms(), 10**18, True, None),
        (RetentionTerms(age=86_400.0), 0, True, "age"),
        (RetentionTerms(age=86_400.0), 0, False, None),
        (RetentionTerms(age=3 * 86_400.0), 0, True, None),
        (RetentionTerms(size=100), 101, True, "size"),
        (RetentionTerms(size=100), 100, True, None),
        (RetentionTerms(age=86_400.0, size=100), 101, True, "age"),
        (RetentionTerms(age=86_400.0, size=100), 101, False, "size"),
    ],
)
def test_a_day_is_removed_by_age_or_by_size(terms: RetentionTerms, total: int, by_age: bool, cause: str | None) -> None:
    now = begin_of("2026-11-22")
    assert removal_cause(_day("2026-11-20"), total, terms, now, by_age=by_age) == cause


def test_the_age_counts_from_the_end_of_the_day_and_compression_from_its_closing() -> None:
    end = begin_of("2026-11-21")
    assert not is_past("2026-11-20", 86_400.0, end + DAY - 1)
    assert is_past("2026-11-20", 86_400.0, end + DAY)
    terms = RetentionTerms(compress_after=1.0)
    assert not may_be_compressed("2026-11-20", end, terms, end + 999_999)
    assert may_be_compressed("2026-11-20", end, terms, end + 1_000_000)
    assert not may_be_compressed("2026-11-20", end, RetentionTerms(), end + 2**60)
    in_2031 = end + 1800 * DAY
    assert may_be_compressed("2026-11-20", in_2031, terms, end + 1_000_000), "the clock was set back"
    assert not may_be_compressed("2026-11-20", in_2031, terms, end + 999_999)


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        (RetentionTerms(), "kept for ever, not compressed"),
        (RetentionTerms(age=400 * 86_400.0, compress_after=172_800.0), "kept for 400d, compressed after 2d"),
        (RetentionTerms(age=86_400.0, size=2**40), "kept for 1d and up to 1TiB in all, not compressed"),
    ],
)
def test_the_terms_in_words(terms: RetentionTerms, text: str) -> None:
    assert str(terms) == text


def test_after_the_clock_leapt_by_years_nothing_is_removed_by_age_for_a_day() -> None:
    """The day is younger than the age in truth, and old by the clock that leapt."""
    wall, boot = begin_of("2026-11-22"), 2 * HOLD
    rule = AgeRule(wall=wall, boot=boot, hold=0)
    stored, terms = _day("2026-11-20"), RetentionTerms(age=400 * 86_400.0)

    def cause(now: Clocks) -> str | None:
        nonlocal rule
        rule = rule.look(now)
        return removal_cause(stored, 0, terms, now.wall, by_age=rule.may_delete(now))

    assert cause(Clocks(wall, boot)) is None
    leapt = 3 * 365 * DAY
    assert [cause(Clocks(wall + leapt + step, boot + step)) for step in range(0, HOLD, HOLD // 50)] == [None] * 50
    assert cause(Clocks(wall + HOLD // 2, boot + HOLD // 2)) is None, "it was set back"
    assert cause(Clocks(wall + 2 * HOLD, boot + 2 * HOLD)) is None
