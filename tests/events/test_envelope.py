"""The beginning of a message, which all mappings write with one class."""

import pytest

from relay.events.envelope import Envelope, sd_param
from relay.values.event import EventType

ENVELOPE = Envelope(hostname="a b", router='r"1', node="", sd_id="128T")


def test_the_head_ends_with_the_sd_id_and_the_origin_begins_behind_it() -> None:
    head = ENVELOPE.head(110, b"-", b"auditd", b"USER_AUTH")
    assert head == b"<110>1 - a_b auditd - USER_AUTH [128T"
    assert ENVELOPE.origin(EventType.AUDIT) == b' type="audit" router="r\\"1"'


def test_an_event_can_name_another_host_router_and_node() -> None:
    assert b" peer 128T 7 " in ENVELOPE.head(13, b"-", b"128T", b"alarm", procid=b"7", hostname=b"peer")
    assert ENVELOPE.origin(EventType.ALARM, router=b"x", node=b"y") == b' type="alarm" router="x" node="y"'


@pytest.mark.parametrize(
    ("value", "written"),
    [(b"plain", b"plain"), (b'"\\]', b'\\"\\\\\\]'), (b"\x1b[m\n", b"#033[m\n"), (b"\xff", b"\xef\xbf\xbd")],
)
def test_every_value_becomes_a_legal_one(value: bytes, written: bytes) -> None:
    assert sd_param(b"a b", value) == b' a_b="%b"' % written
