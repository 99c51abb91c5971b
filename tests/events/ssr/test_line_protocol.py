"""InfluxDB line protocol: the examples of its documentation, what Telegraf writes, and what is broken."""

import pytest

from relay.events.ssr.collected import Collected, NotCollectedError, Value
from relay.events.ssr.line_protocol import parse

DOCUMENTED: list[tuple[bytes, Collected]] = [
    (
        b'myMeasurement,tag1=value1,tag2=value2 fieldKey="fieldValue" 1556813561098000000',
        Collected(
            b"myMeasurement",
            {b"tag1": b"value1", b"tag2": b"value2"},
            {b"fieldKey": b"fieldValue"},
            1556813561098000000,
        ),
    ),
    (
        rb'my\ Measurement fieldKey="string value"',
        Collected(b"my Measurement", {}, {b"fieldKey": b"string value"}, None),
    ),
    (
        rb'myMeasurement fieldKey="\"string\" within a string"',
        Collected(b"myMeasurement", {}, {b"fieldKey": b'"string" within a string'}, None),
    ),
    (
        rb"myMeasurement,tag\ Key1=tag\ Value1,tag\ Key2=tag\ Value2 fieldKey=100",
        Collected(
            b"myMeasurement", {b"tag Key1": b"tag Value1", b"tag Key2": b"tag Value2"}, {b"fieldKey": 100.0}, None
        ),
    ),
    (
        'myMeasurement,tagKey=🍭 fieldKey="Launch 🚀" 1556813561098000000'.encode(),
        Collected(
            b"myMeasurement", {b"tagKey": "🍭".encode()}, {b"fieldKey": "Launch 🚀".encode()}, 1556813561098000000
        ),
    ),
    (
        b"weather,location=us-midwest temperature=82,humidity=71 1465839830100400200",
        Collected(
            b"weather",
            {b"location": b"us-midwest"},
            {b"temperature": 82.0, b"humidity": 71.0},
            1465839830100400200,
        ),
    ),
    (
        rb"wea\,ther,location=us\,midwest temp\=rature=82 1465839830100400200",
        Collected(b"wea,ther", {b"location": b"us,midwest"}, {b"temp=rature": 82.0}, 1465839830100400200),
    ),
    (
        b'weather,location=us-midwest temperature="too hot/cold" 1465839830100400203',
        Collected(b"weather", {b"location": b"us-midwest"}, {b"temperature": b"too hot/cold"}, 1465839830100400203),
    ),
    (
        rb'weather,location=us-midwest temperature="too hot\\cold" 1465839830100400204',
        Collected(b"weather", {b"location": b"us-midwest"}, {b"temperature": rb"too hot\cold"}, 1465839830100400204),
    ),
    (
        rb'weather,location=us-midwest temperature="too hot\\\\cold" 1465839830100400206',
        Collected(b"weather", {b"location": b"us-midwest"}, {b"temperature": rb"too hot\\cold"}, 1465839830100400206),
    ),
]


@pytest.mark.parametrize(("record", "event"), DOCUMENTED, ids=range(len(DOCUMENTED)))
def test_the_documented_examples_are_read(record: bytes, event: Collected) -> None:
    assert parse(record) == event


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"1.0", 1.0),
        (b"1", 1.0),
        (b"-1.234456e+78", -1.234456e78),
        (b".5", 0.5),
        (b"-.42", -0.42),
        (b"00.42", 0.42),
        (b"-0i", 0),
        (b"9223372036854775808i", 9223372036854775808),
        (b"5.", 5.0),
        (b"1E3", 1000.0),
        (b"1i", 1),
        (b"12485903i", 12485903),
        (b"-12485903i", -12485903),
        (b"18446744073709551615u", 18446744073709551615),
        (b"9" * 5000 + b"i", b"9" * 5000),
        (b"1e999", b"1e999"),
        *((word, True) for word in (b"t", b"T", b"true", b"True", b"TRUE")),
        *((word, False) for word in (b"f", b"F", b"false", b"False", b"FALSE")),
        (b'""', b""),
        (b'"a,b c=d"', b"a,b c=d"),
        (b'"a\nb\r\nc"', b"a\nb\r\nc"),
        (rb'"C:\new"', rb"C:\new"),
        (b'"\x00\xff"', b"\x00\xff"),
    ],
)
def test_every_kind_of_value_is_read(text: bytes, value: Value) -> None:
    read = parse(b"events a=%b,b=1i 5" % text)
    assert read == Collected(b"events", {}, {b"a": value, b"b": 1}, 5)
    assert type(read.fields[b"a"]) is type(value)


def test_white_space_around_and_a_carriage_return_mean_nothing() -> None:
    assert parse(b"  events,type=admin\ta=1i \t -7 \r") == Collected(b"events", {b"type": b"admin"}, {b"a": 1}, -7)


def test_a_backslash_that_escapes_nothing_means_itself() -> None:
    assert parse(rb"ev\ents,ta\g=va\lue\\x f\ield=1i") == Collected(
        rb"ev\ents", {rb"ta\g": rb"va\lue\\x"}, {rb"f\ield": 1}, None
    )


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (rb"two\ words", b"two words"),
        (rb"two\\ words", rb"two\ words"),
        (rb"two\\\ words", rb"two\\ words"),
        (rb"CORP\\\,a\\\=b", rb"CORP\\,a\\=b"),
    ],
)
def test_in_tags_a_backslash_escapes_the_next_octet_whatever_precedes_it(value: bytes, read: bytes) -> None:
    r"""As Telegraf's own tests have it: a `\` in a value is written as it is, and a space after it as `\ `."""
    assert parse(b"cpu,%b=b,host=%b value=42" % (value, value)) == Collected(
        b"cpu", {read: b"b", b"host": read}, {b"value": 42.0}, None
    )


def test_in_other_names_two_backslashes_are_a_pair() -> None:
    assert parse(b"cp\\\\ va\\\\=42") == Collected(b"cp\\\\", {}, {b"va\\\\": 42.0}, None)


def test_of_a_key_that_occurs_twice_the_last_counts() -> None:
    assert parse(b"events,a=1,a=2 b=1i,b=2i") == Collected(b"events", {b"a": b"2"}, {b"b": 2}, None)


@pytest.mark.parametrize(
    ("record", "offset"),
    [
        (b"", 0),
        (b",type=admin a=1", 0),
        (b"events", 6),
        (b"events,type=admin", 17),
        (b"events,type a=1", 7),
        (b"events, a=1", 7),
        (b"events a", 7),
        (b"events a=", 9),
        (b"events =1", 7),
        (b"events a=1,", 11),
        (b"events a=1 b=2", 11),
        (b'events a="x', 9),
        (b'events a="x\\"', 9),
        (b'events a="x"y', 12),
        (b"events a=yes", 9),
        (b"events a=42E", 9),
        (b"events a=.", 9),
        (b"events a=42\revents b=1", 11),
        (b'events a=42 "12345678901234567890"', 12),
        (b"events a=1ii", 9),
        (b"events a=1.5i", 9),
        (b"events a=0x1", 9),
        (b"events a=1 12345678901234567890", 30),
        (b"events a=1 1.5", 12),
        (b"events a=1 5 6", 12),
        (b"events a=nan", 9),
        (b"events a=1\nevents b=1", 10),
    ],
)
def test_an_error_names_its_offset(record: bytes, offset: int) -> None:
    with pytest.raises(NotCollectedError) as told:
        parse(record)
    assert told.value.offset == offset
