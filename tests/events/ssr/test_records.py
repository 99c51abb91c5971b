"""The collector's output in any cut: whole records, several lines in one, garbage, and what is cut in the middle."""

import os
import random
import time

import pytest

from relay.events.ssr import line_protocol
from relay.events.ssr.collected import Collected
from relay.events.ssr.mapping import SsrMapping
from relay.events.ssr.records import Malformed, RecordDecoder
from relay.syslog import rfc5424
from relay.values.event import EventType

MAPPING = SsrMapping(hostname="h", router="r")
Found = list[Collected | Malformed]


def decoded(data: bytes, *, max_record: int = 4096, step: int | None = None) -> Found:
    records = RecordDecoder(max_record)
    found: Found = []
    for start in range(0, len(data), step or len(data) or 1):
        found += records.receive(data[start : start + (step or len(data))])
    return found + records.finish()


def shape(found: Found) -> list[object]:
    """Fields of events, and the octets of what is malformed."""
    return [dict(each.fields) if isinstance(each, Collected) else each.octets for each in found]


# --- Where a record ends ---


def test_a_record_a_line() -> None:
    assert shape(decoded(b"events a=1i 1\nevents,type=x b=2i\r\n\n# comment\n  \n\tevents c=3i\n")) == [
        {b"a": 1},
        {b"b": 2},
        {b"c": 3},
    ]


def test_a_text_of_several_lines_is_one_record() -> None:
    assert shape(decoded(b'e,t=x a="1\n\n2 \\" b=\n",b="\n" 5\ne c=3i\n')) == [
        {b"a": b'1\n\n2 " b=\n', b"b": b"\n"},
        {b"c": 3},
    ]


def test_quotes_outside_a_text_are_characters() -> None:
    assert shape(decoded(b'e",t="x y"z=1i\ne,t=jo"e a=1i\n')) == [{b'y"z': 1}, {b"a": 1}]


def test_an_escaped_space_after_a_backslash_ends_no_tag() -> None:
    """Else the quote behind it would begin a text, and swallow the record after it."""
    data = b'e,user=CORP\\\\ x="y a=1i\ne b=2i\ne\\\\ c="\n"\n'
    for step in (None, 1):
        assert shape(decoded(data, step=step)) == [{b"a": 1}, {b"b": 2}, {b"c": b"\n"}]


def test_a_line_of_json_among_line_protocol() -> None:
    data = b'{"name":"e","fields":{"a":"\\n\\""}}\ne b="{\n{",c=1i\n {"name":"e","fields":{"d":1}}\n'
    assert shape(decoded(data)) == [{b"a": b'\n"'}, {b"b": b"{\n{", b"c": 1}, {b"d": 1}]


# --- What cannot be read ---


def test_garbage_between_records_is_kept_with_its_reason() -> None:
    found = decoded(b'e a=1i\n\x00\xff \x01\ne b=\n{"name":1}\ne c=3i\n')
    assert shape(found) == [{b"a": 1}, b"\x00\xff \x01", b"e b=", b'{"name":1}', {b"c": 3}]
    reasons = [each.reason for each in found if isinstance(each, Malformed)]
    assert reasons[0] == "octet 3: a field's name and = belongs here"
    assert reasons[1] == "octet 4: a field's value belongs here"


def test_a_record_cut_in_a_text_does_not_swallow_records_without_texts() -> None:
    """The one after it ends with a time, as the collector's all do: it is given at once, not with the next quote."""
    records = RecordDecoder()
    assert shape(records.receive(b'events,type=admin diff="a\nb\nevents,type=alarm a=1i 1700000000000000000\n')) == [
        b'events,type=admin diff="a\nb',
        {b"a": 1},
    ]
    assert records.held == 0


def test_a_record_cut_in_a_text_does_not_swallow_records_with_texts() -> None:
    whole = b'events,type=alarm m="x\ny",n=1i 1700000000000000000\n'
    assert shape(decoded(b'events,type=admin diff="a\nb\n' + whole + whole)) == [
        b'events,type=admin diff="a\nb',
        {b"m": b"x\ny", b"n": 1},
        {b"m": b"x\ny", b"n": 1},
    ]


def test_a_record_that_never_ends_is_malformed_at_the_end() -> None:
    assert shape(decoded(b'e a=1i\ne b="x')) == [{b"a": 1}, b'e b="x']
    assert shape(decoded(b"e a=1i\ne b=1i 1")) == [{b"a": 1}, b"e b=1i 1"]


@pytest.mark.parametrize("step", [1, None])
def test_of_a_writer_that_ended_well_the_last_record_is_whole(step: int | None) -> None:
    """As in Telegraf; a text that has begun and not ended is not a value."""

    def shape_of(data: bytes) -> list[object]:
        records = RecordDecoder()
        parts = [data[at : at + (step or len(data))] for at in range(0, len(data), step or len(data))]
        return shape([each for part in parts for each in records.receive(part)] + records.finish(whole=True))

    assert shape_of(b"e a=1i\ne b=1i 1") == [{b"a": 1}, {b"b": 1}]
    assert shape_of(b'e a="1\n2"') == [{b"a": b"1\n2"}]
    assert shape_of(b'{"name":"e","fields":{"a":1}}') == [{b"a": 1}]
    assert shape_of(b'e a=1i\ne b="x\n') == [{b"a": 1}, b'e b="x\n']
    assert shape_of(b"e a=1i\nno event") == [{b"a": 1}, b"no event"]
    assert shape_of(b"e a=1i\n") == [{b"a": 1}]


def test_after_the_end_everything_begins_anew() -> None:
    records = RecordDecoder()
    records.receive(b'e b="x')
    assert shape(records.finish()) == [b'e b="x']
    assert records.finish() == []
    assert shape(records.receive(b"e a=1i\n")) == [{b"a": 1}]


@pytest.mark.parametrize("step", [1, 7, 64, None])
def test_a_record_over_the_ceiling_comes_in_malformed_pieces(step: int | None) -> None:
    long = b"e a=" + b"x" * 1000
    found = decoded(long + b"\ne b=2i\n", max_record=100, step=step)
    assert b"".join(each for each in shape(found)[:-1] if isinstance(each, bytes)) == long
    assert shape(found)[-1] == {b"b": 2}


def test_the_held_octets_never_exceed_the_ceiling() -> None:
    records = RecordDecoder(100)
    for _ in range(1000):
        records.receive(b'e a="' + b"x\n" * 20)
        assert records.held <= 100


# --- Any octets in any cut ---


ROOTS = (
    b'events,type=admin,user=a\\ b diff="l1\nl2 \\"q\\"",n=1i 1700000000000000000\n',
    b"events,type=alarm,severity=major a=1.5,b=t 1700000000000000001\n",
    b'{"name":"events","tags":{"type":"traffic"},"fields":{"x":1}}\n',
    b'x, y="\n',
    b'x" y="\n',
    b"# comment\n",
)
PIECES = (b'"', b"\\", b"\n", b"=", b",", b" ", b"{", b"\x00", b"\xff", b"events", b' a="', b"1700000000000000000\n")


def mangled(chance: random.Random) -> bytes:
    data = bytearray(b"".join(chance.choice(ROOTS) for _ in range(chance.randrange(1, 12))))
    for _ in range(chance.randrange(6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(3):
            case 0:
                data[at:at] = chance.choice(PIECES)
            case 1:
                del data[at : at + chance.randrange(1, 30)]
            case _:
                data[at : at + 1] = chance.randbytes(1)
    return bytes(data)


def check(data: bytes, chance: random.Random) -> None:
    """Whatever comes: every cut gives the same, nothing malformed is changed, and every message is legal."""
    found = decoded(data)
    assert decoded(data, step=chance.randrange(1, 40)) == found
    place = 0
    for each in found:
        if isinstance(each, Malformed):
            place = data.index(each.octets, place) + len(each.octets)
            event = MAPPING.malformed(each.octets, 1)
            assert event.tail.endswith(each.octets)
        else:
            event = MAPPING.event(each, 1)
        read = rfc5424.parse(event.head + b' relayRun="r" relaySeq="1"' + event.tail)
        assert read.structured_data[0].params[2] == (b"type", event.type.label.encode())
        assert event.type is not EventType.RELAY


def test_a_text_that_was_cut_is_found_whether_or_not_a_later_quote_has_ended_it() -> None:
    """Found by the long form."""
    cut = b'events,type=admin diff="l1\nl2 \\"0\n'
    data = cut + b'events,type=alarm a=1.5 1700000000000000001\n{"name":"events","tags":{},"fields":{"x"'
    assert decoded(data) == decoded(data, step=1)
    assert decoded(data)[0] == Malformed(cut[:-1], "it is cut in the middle of a text")


def test_whatever_comes_is_an_event_or_kept() -> None:
    """RELAY_FUZZ_SECONDS=300 for the long form."""
    seconds = float(os.environ.get("RELAY_FUZZ_SECONDS", "0"))
    end = time.monotonic() + seconds
    seed = 0
    while seed < 1500 or time.monotonic() < end:
        data = mangled(random.Random(seed))
        try:
            check(data, random.Random(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {data!r}") from error
        seed += 1


@pytest.mark.parametrize(
    "line",
    [
        b'x" y="\n',
        b'x, y="\n',
        b'x y="\n',
        b'x a=1 y="" z="\n',
        b'x,a="=1 y="\n',
        b'"\n',
        b"\\\n",
        b'e a="\\\n',
        b"{\n",
    ],
)
def test_the_work_on_hostile_lines_grows_as_their_number(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each octet is parsed a few times at most, however reading goes astray."""
    parsed = 0

    def counting(record: bytes) -> Collected:
        nonlocal parsed
        parsed += len(record)
        return parse(record)

    parse = line_protocol.parse
    monkeypatch.setattr(line_protocol, "parse", counting)
    data = line * (200_000 // len(line))
    found = decoded(data, max_record=64 * 1024, step=4096)
    assert parsed <= 12 * len(data)
    assert sum(len(each.octets) + 1 for each in found if isinstance(each, Malformed)) <= len(data) + len(found)
