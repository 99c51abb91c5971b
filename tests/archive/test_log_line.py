"""The lines of an archive's log: text, and every octet comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.archive.log_line import escape, escape_all, unescape


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (b"<13>1 - - - - - - plain", b"<13>1 - - - - - - plain"),
        (b"two\nlines\tand \x7f", b"two#012lines#011and #177"),
        (b"#1 and #12x and #", b"#1 and #12x and #"),
        (b"#012 as written, #777 too", b"#043012 as written, #043777 too"),
        ("gr\u00fc\u00dfe \xff".encode("latin-1"), b"gr\xfc\xdfe \xff"),
    ],
)
def test_a_line_is_as_rsyslog_writes_it(message: bytes, line: bytes) -> None:
    """Control octets are `#ooo`; everything else is unchanged."""
    assert escape(message) == line
    assert unescape(line) == message


@given(st.text(alphabet="#0123478a\n\t\x00\x7f", max_size=12).map(str.encode) | st.binary(max_size=40))
def test_every_message_comes_back(message: bytes) -> None:
    """The escaping is reversible, and a line holds no control octet."""
    line = escape(message)
    assert unescape(line) == message
    assert not [octet for octet in line if octet < 32 or octet == 127]


@given(st.lists(st.binary(max_size=20) | st.just(b"#012")))
def test_many_messages_are_escaped_as_each_of_them(messages: list[bytes]) -> None:
    """One look at all of them changes nothing."""
    assert list(escape_all(messages)) == [escape(message) for message in messages]
