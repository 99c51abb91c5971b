"""What a filter rules out before a message is parsed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.program.history.event_filter import EventFilter, literal_in


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        (b"acct=mal+ory", b"acct=mal"),
        (b"^<30>.*denied$", b"denied"),
        (b"ab?c", b"a"),
        (b"abc*d", b"ab"),
        (b"a+?bcd", b"bcd"),
        (b"(?i)denied", b""),
        (b"one|two", b""),
        (b"[ab]cdef", b""),
        (rb"\d+ cdef", b""),
        (b".*", b""),
    ],
)
def test_the_literal_of_an_expression(pattern: bytes, literal: bytes) -> None:
    assert literal_in(pattern) == literal


@given(st.text(alphabet="ab.*+?^$ ", max_size=9), st.text(alphabet="ab ", max_size=9))
def test_every_match_has_the_literal(pattern: str, text: str) -> None:
    try:
        expression = re.compile(pattern.encode())
    except re.error:
        return
    if expression.search(text.encode()):
        assert literal_in(expression.pattern) in text.encode()


def test_expressions_without_a_literal_are_no_condition_on_octets() -> None:
    both = EventFilter(expressions=(re.compile(b"abc"), re.compile(b"[x]")))
    assert both.line_query().texts == ()
    assert EventFilter(expressions=(re.compile(b"abc"), re.compile(b"de"))).line_query().texts == (b"abc", b"de")
    assert EventFilter(expressions=(re.compile(b"abc"),), texts=(b"t",)).line_query().texts == (b"t",)
