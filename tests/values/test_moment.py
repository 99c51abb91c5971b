"""Times as people write them."""

from zoneinfo import ZoneInfo

import pytest

from relay.values.moment import first_moment, last_moment

NOW = 1_709_742_862_344_000  # 2024-03-06T16:34:22.344Z
DAY_BEGINS = 1_709_683_200_000_000
HOUR = 3_600_000_000
UTC = ZoneInfo("UTC")
TOKYO = ZoneInfo("Asia/Tokyo")
"""Nine hours ahead: at NOW it is 01:34 of 7 March there."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-06T16:34:22.344Z", NOW),
        ("2024-03-06T16:34:22.344000999Z", NOW),
        ("2024-03-06t17:34:22.344+01:00", NOW),
        ("2024-03-06 08:34:22.344-08:00", NOW),
        ("2024-03-06T16:34:22z", NOW - 344_000),
        ("2024-03-06 16:34:22.344", NOW),
        ("2024-03-06T16:34", NOW - 22_344_000),
        ("2024-03-06 17:34+01:00", NOW - 22_344_000),
        ("16:34", NOW - 22_344_000),
        ("16:34:22.344", NOW),
        ("17:34:22.344+01:00", NOW),
        ("18:00", DAY_BEGINS + 18 * HOUR),
        ("2024-03-06", DAY_BEGINS),
        ("today", DAY_BEGINS),
        ("Yesterday", DAY_BEGINS - 24 * HOUR),
        ("now", NOW),
        ("-2h", NOW - 2 * HOUR),
        ("-7d", NOW - 7 * 24 * HOUR),
        ("-90s", NOW - 90_000_000),
        ("-0s", NOW),
        ("0001-01-01T00:00:00+01:00", -62_135_600_400_000_000),
    ],
)
def test_a_time_is_read_as_microseconds(text: str, expected: int) -> None:
    assert first_moment(text, NOW, UTC) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-06", DAY_BEGINS - 9 * HOUR),
        ("today", DAY_BEGINS + 15 * HOUR),
        ("yesterday", DAY_BEGINS - 9 * HOUR),
        ("01:34:22.344", NOW),
        ("2024-03-07 01:34:22.344", NOW),
        ("2024-03-06T16:34:22.344Z", NOW),
        ("now", NOW),
    ],
)
def test_a_time_without_a_zone_is_in_the_callers_zone(text: str, expected: int) -> None:
    assert first_moment(text, NOW, TOKYO) == expected


@pytest.mark.parametrize("text", ["2024-03-06", "today"])
def test_a_day_lasts_to_its_last_microsecond(text: str) -> None:
    assert last_moment(text, NOW, UTC) == DAY_BEGINS + 24 * HOUR - 1


def test_the_last_moment_of_any_other_time_is_that_moment() -> None:
    assert last_moment("2024-03-06T16:34:22.344Z", NOW, UTC) == NOW
    assert last_moment("16:34", NOW, UTC) == NOW - 22_344_000
    assert last_moment("-1h", NOW, UTC) == NOW - HOUR


def test_a_day_on_which_the_clocks_change_has_as_many_hours_as_it_has() -> None:
    begin, end = (read("2024-03-31", NOW, ZoneInfo("Europe/Berlin")) for read in (first_moment, last_moment))
    assert end - begin + 1 == 23 * HOUR


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "not a time"),
        ("tomorrow-ish", "not a time"),
        ("2h", "not a time"),
        ("-2", "not a time"),
        ("--2h", "not a time"),
        ("2024-3-6", "not a time"),
        ("1:20", "not a time"),
        ("2024-02-30", "day "),
        ("9999-12-31", "not a time"),
        ("2024-03-06T25:00:00Z", "hour must be in 0..23"),
        ("24:30", "hour must be in 0..23"),
        ("٢٠٢٤-03-06", "not a time"),
        ("2024-03-06\n", "not a time"),
    ],
)
def test_another_text_is_rejected_as_a_time(text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause) as rejected:
        first_moment(text, NOW, UTC)
    assert "\n" not in str(rejected.value)
