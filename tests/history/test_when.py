"""Times as people write them."""

import pytest

from relay import when

NOW = 1_709_742_862_344_000  # 2024-03-06T16:34:22.344Z
DAY_BEGINS = 1_709_683_200_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-06T16:34:22.344Z", NOW),
        ("2024-03-06T16:34:22.344000999Z", NOW),
        ("2024-03-06t17:34:22.344+01:00", NOW),
        ("2024-03-06 08:34:22.344-08:00", NOW),
        ("2024-03-06T16:34:22z", NOW - 344_000),
        ("2024-03-06", DAY_BEGINS),
        ("now", NOW),
        ("-2h", NOW - 7_200_000_000),
        ("-7d", NOW - 7 * 86_400_000_000),
        ("-90s", NOW - 90_000_000),
        ("-0s", NOW),
        ("0001-01-01T00:00:00+01:00", -62_135_600_400_000_000),
    ],
)
def test_a_time_is_read(text: str, expected: int) -> None:
    assert when.beginning(text, NOW) == expected


def test_a_day_as_the_end_of_a_span_is_meant_to_its_last_microsecond() -> None:
    assert when.end("2024-03-06", NOW) == DAY_BEGINS + 86_400_000_000 - 1
    assert when.end("2024-03-06T16:34:22.344Z", NOW) == NOW
    assert when.end("-1h", NOW) == NOW - 3_600_000_000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no time"),
        ("yesterday", "no time"),
        ("2h", "no time"),
        ("-2", "no time"),
        ("--2h", "no time"),
        ("2024-3-6", "no time"),
        ("2024-02-30", "day is out of range"),
        ("2024-03-06T25:00:00Z", "hour must be in 0..23"),
        ("2024-03-06T16:34:22", "lacks its zone"),
        ("2024-03-06T16:34Z", "no time"),
        ("٢٠٢٤-03-06", "no time"),
        ("2024-03-06\n", "no time"),
    ],
)
def test_what_is_no_time_is_refused_in_a_sentence(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        when.beginning(text, NOW)
    assert "\n" not in str(refused.value)
