"""Telegraf's JSON, one object a line."""

import pytest

from relay.events.ssr.collected import Collected, NotCollectedError
from relay.events.ssr.json_line import parse


def test_the_documented_shape_is_read() -> None:
    line = (
        b'{"name":"events","tags":{"type":"alarm","router":"r1"},'
        b'"fields":{"message":"a\\nb","n":1,"x":1.5,"ok":true,"none":null},"timestamp":1587687966}'
    )
    assert parse(line) == Collected(
        b"events",
        {b"type": b"alarm", b"router": b"r1"},
        {b"message": b"a\nb", b"n": 1, b"x": 1.5, b"ok": True},
        1_587_687_966_000_000_000,
    )


@pytest.mark.parametrize(
    ("timestamp", "time"),
    [
        (b"1587687966", 1_587_687_966_000_000_000),
        (b"1587687966.25", 1_587_687_966_250_000_000),
        (b"1587687966123", 1_587_687_966_123_000_000),
        (b"1587687966123456", 1_587_687_966_123_456_000),
        (b"1587687966123456789", 1_587_687_966_123_456_789),
        (b"-1", -1_000_000_000),
        (b"1e30", None),
        (b"9" * 400, None),
        (b"null", None),
    ],
)
def test_the_unit_of_the_time_shows_in_its_size(timestamp: bytes, time: int | None) -> None:
    assert parse(b'{"name":"e","fields":{},"timestamp":%b}' % timestamp).time == time


def test_a_field_that_is_an_object_stays_json() -> None:
    assert parse(b'{"name":"e","fields":{"a":{"b":[1,"c"]}}}').fields == {b"a": b'{"b":[1,"c"]}'}


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"{}",
        b'{"name":"e"}',
        b'{"name":1,"fields":{}}',
        b'{"name":"e","fields":[]}',
        b'{"name":"e","fields":{},"tags":{"a":1}}',
        b'{"name":"e","fields":{"a":"\xff"}}',
        b'{"name":"e","fields":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"name":"e","fields":{"a":1}} x',
    ],
)
def test_any_other_json_is_an_error(line: bytes) -> None:
    with pytest.raises(NotCollectedError):
        parse(line)
