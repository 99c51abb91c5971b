"""Octets and text of others reach a terminal only in escaped form."""

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.values.text import bug_text, decoded, error_text, escaped, excerpt, fitted, printable_json, quoted


@given(st.binary(max_size=300))
def test_any_octets_become_printable_text_on_one_line(octets: bytes) -> None:
    assert escaped(decoded(octets)).isprintable()


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
def test_control_characters_and_octets_that_are_not_utf_8_are_escaped(octets: bytes, shown: str) -> None:
    assert escaped(decoded(octets)) == shown


@given(st.text(st.characters(codec="utf-8")))
def test_json_for_programs_is_printable_and_has_the_same_value(text: str) -> None:
    octets = printable_json(msgspec.json.encode({"a": text}))
    assert octets.decode().isprintable()
    assert json.loads(octets) == {"a": text}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a\x7f", rb"a\u007f"),
        ("\x80\x9b31m\x9f", rb"\u0080\u009b31m\u009f"),
        ("\u202a\u202e\u2066\u2069", rb"\u202a\u202e\u2066\u2069"),
        ("\u2028\u2029", rb"\u2028\u2029"),
        ("\U000e0001", rb"\udb40\udc01"),
        ("Grüße, 世界", "Grüße, 世界".encode()),
    ],
)
def test_json_for_programs_escapes_what_a_terminal_obeys(text: str, written: bytes) -> None:
    assert printable_json(msgspec.json.encode(text)) == b'"%b"' % written


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
def test_a_line_is_cut_to_the_columns_that_its_characters_take(text: str, columns: int | None, shown: str) -> None:
    assert fitted(text, columns) == shown


def test_a_quoted_text_is_one_short_line() -> None:
    assert quoted("a\n\x1b[2J") == r'"a\n\x1b[2J"'
    assert quoted("x" * 60) == f'"{"x" * 60}"'
    assert quoted("x" * 61) == f'"{"x" * 60}…"'


def test_an_excerpt_is_escaped_and_not_quoted() -> None:
    assert excerpt("a\nb") == r"a\nb"
    assert excerpt("x" * 301) == "x" * 300 + "…"


def test_an_error_is_shown_with_its_type_and_without_python_quotes() -> None:
    assert error_text(ValueError("no\nnumber")) == r"ValueError: no\nnumber"
    assert error_text(TimeoutError()) == "TimeoutError"


def test_a_bug_is_shown_with_the_innermost_line_of_relay() -> None:
    with pytest.raises(TypeError) as caught:
        quoted(None)  # type: ignore[arg-type]
    text = bug_text(caught.value)
    assert re.fullmatch(r"a bug at relay/values/text\.py:\d+: \w+: .*", text), text
    assert bug_text(ValueError("no\nnumber")) == r"a bug: ValueError: no\nnumber"
