"""tagpass, tagdrop, fieldpass and fielddrop decide as Telegraf's do."""

import pytest

from relay.events.ssr.collected import Collected
from relay.events.ssr.filters import Filter

EVENT = Collected(b"events", {b"type": b"alarm", b"node": b"n1"}, {b"message": b"m", b"debug_a": 1, b"debug_b": 2}, 1)


@pytest.mark.parametrize(
    ("keys", "passes"),
    [
        ({}, True),
        ({"tagpass": {"type": ["alarm", "admin"]}}, True),
        ({"tagpass": {"type": ["admin"]}}, False),
        ({"tagpass": {"type": ["al*"]}}, True),
        ({"tagpass": {"nothing": ["*"]}}, False),
        ({"tagpass": {"type": ["admin"], "node": ["n1"]}}, True),
        ({"tagpass": {}}, True),
        ({"tagdrop": {"type": ["alarm"]}}, False),
        ({"tagdrop": {"type": ["admin"]}}, True),
        ({"tagdrop": {"type": ["admin"], "node": ["n?"]}}, False),
        ({"tagpass": {"type": ["alarm"]}, "tagdrop": {"node": ["n1"]}}, False),
        ({"tagpass": {"type": ["alarm"]}, "tagdrop": {"node": ["n2"]}}, True),
    ],
)
def test_the_tags_decide_whether_an_event_passes(keys: dict[str, dict[str, list[str]]], passes: bool) -> None:
    """Several tags in one table are alternatives; tagpass and tagdrop must both let it pass (Telegraf's issue 2860)."""
    assert Filter(tagpass=keys.get("tagpass"), tagdrop=keys.get("tagdrop")).apply(EVENT) == (EVENT if passes else None)


@pytest.mark.parametrize(
    ("fieldpass", "fielddrop", "stay"),
    [
        (["message"], None, {b"message"}),
        (["*_?"], None, {b"debug_a", b"debug_b"}),
        (None, ["debug_*"], {b"message"}),
        (["debug_*"], ["*_b"], {b"debug_a"}),
    ],
)
def test_fields_pass_or_are_dropped(fieldpass: list[str] | None, fielddrop: list[str] | None, stay: set[bytes]) -> None:
    passed = Filter(fieldpass=fieldpass, fielddrop=fielddrop).apply(EVENT)
    assert passed is not None
    assert set(passed.fields) == stay
    assert passed.tags == EVENT.tags


def test_an_event_without_any_field_left_is_dropped() -> None:
    assert Filter(fielddrop=["*"]).apply(EVENT) is None


def test_octets_that_are_not_utf_8_match_as_a_character_each() -> None:
    event = EVENT._replace(tags={b"type": b"\xff\xfe"})
    assert Filter(tagpass={"type": ["??"]}).apply(event) is event
