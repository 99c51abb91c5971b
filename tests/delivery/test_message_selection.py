"""The messages of a block that a destination selects, compared with the plain definition."""

from delivery.blocks import block, mixed
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.message_selection import EVERYTHING, MessageSelection
from relay.delivery.sessions.syslog_encoder import SyslogEncoder
from relay.spool.block import Block, type_bitmap
from relay.syslog.framing import octet_counted
from relay.syslog.priority import EVERY_PRIORITY, FACILITIES, SEVERITIES, priorities, priority, with_pri
from relay.values.event import EventType

types = st.sets(st.sampled_from(EventType))
messages = st.integers(0, 191).map(lambda value: b"<%d>1 - - - - - - x" % value) | st.just(b"no priority")
spans = st.lists(st.tuples(st.sampled_from(EventType), st.lists(messages, min_size=1, max_size=4)), min_size=1)


@given(spans, types, st.sets(st.sampled_from(FACILITIES)), st.sampled_from(SEVERITIES))
def test_the_selected_messages_are_those_of_the_plain_definition(
    given_spans: list[tuple[EventType, list[bytes]]], chosen: set[EventType], facilities: set[str], severity: str
) -> None:
    whole = mixed(given_spans)
    selection = MessageSelection(type_bitmap(sorted(chosen)), priorities(facilities, severity))
    expected = [
        (kind, number, message)
        for kind, number, message in whole.messages()
        if kind in chosen
        and (
            kind is EventType.RELAY
            or (
                (not facilities or FACILITIES[priority(message) // 8] in facilities)
                and priority(message) % 8 <= SEVERITIES.index(severity)
            )
        )
    ]
    assert list(selection.messages(whole)) == expected
    assert selection.count(whole) == len(expected)
    assert len(expected) == whole.header.messages or not selection.all_of(whole.header)
    framed = b"".join(SyslogEncoder(selection, 1 << 20).framed(whole))
    assert framed == b"".join(octet_counted(with_pri(message)) for _, _, message in expected)


class Unread(Block):
    """A block whose messages must not be parsed."""

    def messages(self) -> None:  # type: ignore[override]  # it is never to be called
        raise AssertionError("a message was read")


def test_where_every_priority_is_selected_a_payload_is_sent_as_stored() -> None:
    unread = Unread(*block([b"<13>a", b"<14>b"]))
    for selection in (EVERYTHING, MessageSelection(1 << EventType.LOG, EVERY_PRIORITY)):
        assert list(SyslogEncoder(selection, 1 << 20).framed(unread)) == [unread.payload]
        assert selection.count(unread) == 2


def test_relays_own_events_are_sent_as_stored_whatever_the_priority() -> None:
    unread = Unread(*block([b"<46>a"], EventType.RELAY))
    selection = MessageSelection(EVERYTHING.types, priorities(("local0",), "emerg"))
    assert list(SyslogEncoder(selection, 1 << 20).framed(unread)) == [unread.payload]
    assert selection.count(unread) == 1


UNPRIORITISED = (b"<14>a", b"1 b\nc", b"<x>d", b"")


def test_every_framing_gives_a_pri_to_a_message_without_one() -> None:
    whole = block(UNPRIORITISED)
    sent = [b"<14>a", b"<13>1 b\nc", b"<13><x>d", b"<13>"]
    encoder = SyslogEncoder(EVERYTHING, 10)
    assert b"".join(encoder.framed(whole)) == b"".join(map(octet_counted, sent))
    assert list(encoder.datagrams(whole)) == sent
    assert [data for _, _, data in encoder.singly(whole)] == list(map(octet_counted, sent))
    assert [octets for _, octets, _ in encoder.singly(whole)] == list(map(len, sent))
    assert encoder.largest(whole) == max(map(len, sent))
    lines = b"".join(encoder._replace(octet_counting=False).framed(whole))
    assert lines == b"<14>a\n<13>1 b#01\n<13><x>d\n<13>\n"


def test_a_part_of_a_block_is_sent_as_the_whole_block_is() -> None:
    whole, encoder = block(UNPRIORITISED), SyslogEncoder(EVERYTHING, 1 << 20)
    parts = (whole.cut(0, 1), whole.cut(1, 2), *whole.cut(2, 4).singly())
    assert b"".join(data for part in parts for data in encoder.framed(part)) == b"".join(encoder.framed(whole))
