"""Untrusted octets never reach a terminal as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.output import cut, escaped, text_of


@given(st.binary(max_size=300))
def test_whatever_comes_is_printable_and_on_one_line(octets: bytes) -> None:
    assert escaped(text_of(octets)).isprintable()


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (b"plain \\n text", "plain \\n text"),
        ("Grüße, 世界".encode(), "Grüße, 世界"),
        (b"\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        (b"a\r\n\tb\x7f\x00", "a\\r\\n\\tb\\x7f\\x00"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("\u202eevil\u2066\u200b\x9b31m".encode(), "\\u202eevil\\u2066\\u200b\\x9b31m"),
        ("\U000e0001".encode(), "\\U000e0001"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(octets: bytes, shown: str) -> None:
    assert escaped(text_of(octets)) == shown


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", None, "abcdef"),
        ("世界世界", 8, "世界世界"),
        ("世界世界", 7, "世界世…"),
        ("世界世界", 6, "世界…"),
        ("e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"),
        ("abcdef", 0, "…"),
        ("abcdef", -5, "…"),
        ("", 0, ""),
    ],
)
def test_a_line_is_cut_to_the_columns_it_takes(text: str, columns: int | None, shown: str) -> None:
    assert cut(text, columns) == shown
