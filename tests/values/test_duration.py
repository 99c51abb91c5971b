"""Durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.values.duration import duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10ms", 0.01),
        ("0s", 0.0),
        ("90s", 90.0),
        ("1.5s", 1.5),
        ("15m", 900.0),
        ("24h", 86_400.0),
        ("180d", 15_552_000.0),
        ("2 h", 7200.0),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, value: float) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize("text", ["", "10", "ms", "-1s", "1w", "1e3s", "10 ms ", "1.5ms", "٣s", "1s\n", "1,5s"])
def test_another_text_is_rejected_as_a_duration_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'is not a duration; write a number and a unit, as in "10ms"'):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**12))
def test_a_duration_that_is_written_reads_back_to_the_same_milliseconds(milliseconds: int) -> None:
    assert parse_duration(duration_text(milliseconds / 1000)) == milliseconds / 1000


def test_a_duration_is_written_in_its_largest_whole_unit() -> None:
    assert [duration_text(value) for value in (0, 0.01, 90, 900, 86_400)] == ["0s", "10ms", "90s", "15m", "1d"]
