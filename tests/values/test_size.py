"""Sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.values.size import parse_size, rounded_size, size_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8192", 8192),
        ("0B", 0),
        ("64KiB", 65_536),
        ("100MiB", 104_857_600),
        ("2GiB", 2_147_483_648),
        ("1TiB", 1_099_511_627_776),
        ("100MB", 100_000_000),
        ("5KB", 5000),
        ("1.5MiB", 1_572_864),
    ],
)
def test_a_size_is_read_as_bytes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "MiB", "16 mib", "16Mib", "1.3B", "-1MiB", "1MiB MiB", "0x10", "9" * 16])
def test_another_text_is_rejected_as_a_size_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'is not a size; write a number and a unit, as in "64KiB"'):
        parse_size(text)


@given(st.integers(min_value=0, max_value=10**14))
def test_a_size_that_is_written_reads_back_to_the_same_bytes(value: int) -> None:
    assert parse_size(size_text(value)) == value


def test_a_size_for_a_reader_is_never_a_rounded_zero() -> None:
    sizes = {
        0: "0 B",
        999: "999 B",
        1000: "1.0 KB",
        49_000: "49.0 KB",
        2_340_000: "2.3 MB",
        5 * 10**9: "5.0 GB",
        10**15: "1000.0 TB",
    }
    assert [rounded_size(value) for value in sizes] == list(sizes.values())


def test_a_size_is_written_in_its_largest_whole_unit() -> None:
    assert [size_text(value) for value in (0, 480, 8192, 2**31)] == ["0B", "480B", "8KiB", "2GiB"]
