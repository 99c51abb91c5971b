"""Folder names from hostile HOSTNAMEs."""

from hypothesis import given
from hypothesis import strategies as st

from relay.archive.filing.originator import MAX_NAME, NAMELESS, folder_name


def test_names_keep_what_is_safe_and_escape_the_rest() -> None:
    assert folder_name(b"router-1.example_net") == "router-1.example_net"
    assert folder_name(b"../../etc/passwd") == "%2E.%2F..%2Fetc%2Fpasswd"
    assert folder_name(b".") == "%2E"
    assert folder_name(b"..") == "%2E."
    assert folder_name(b".relay") == "%2Erelay"
    assert folder_name(b"a%2Fb") == "a%252Fb"
    assert folder_name(b"2001:db8::1") == "2001%3Adb8%3A%3A1"
    assert folder_name(None) == NAMELESS


def test_long_names_are_cut_and_stay_apart() -> None:
    one, two = folder_name(b"a" * 255), folder_name(b"a" * 254 + b"b")
    assert one != two
    assert len(one) == len(two) == MAX_NAME


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_names_are_safe_and_different(one: bytes, two: bytes) -> None:
    name = folder_name(one)
    assert "/" not in name
    assert not name.startswith((".", "~"))
    assert 0 < len(name) <= MAX_NAME
    if one and two and one != two:
        assert name != folder_name(two) or NAMELESS.encode() in (one, two)
