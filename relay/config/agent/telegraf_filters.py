"""Telegraf's filters in a plugin's table, and which event types they let pass. Pure.

A type that relay does not know, a newer router's, goes by the label `log` (relay.events.ssr.mapping). A `tagdrop` keeps
it back when it fits every type. A `tagpass` lets it pass that fits every type or no known one, or names another; one
with a narrow glob may (`may_pass_unknown`).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from relay.values.event import SERVER_TYPES, EventType
from relay.values.glob_matcher import glob_matcher

UNKNOWN: Final = EventType.LOG.label
TYPES: Final = tuple(kind.label for kind in SERVER_TYPES)
"""The values of an event's tag `type`, and UNKNOWN for all other values."""
FILTERS: Final = {
    "tagpass": "tagpass",
    "tagdrop": "tagdrop",
    "fieldpass": "fieldpass",
    "fieldinclude": "fieldpass",  # its newer name
    "pass": "fieldpass",  # its oldest
    "fielddrop": "fielddrop",
    "fieldexclude": "fielddrop",
    "drop": "fielddrop",
}
"""Those that relay's sources have too."""
OTHER_FILTERS: Final = ("namepass", "namedrop", "taginclude", "tagexclude", "metricpass")
_KNOWN: Final = frozenset(TYPES) - {UNKNOWN}
_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")


def types_passed(table: Mapping[str, Any]) -> frozenset[str]:
    """The event types that a table's filters let pass, as far as the tag `type` decides it."""
    passed, dropped = table.get("tagpass"), table.get("tagdrop")
    types = frozenset(TYPES)
    if isinstance(passed, dict) and set(passed) == {"type"}:  # with several tags it is enough that one of them passes
        types = types.intersection(_passing(as_list(passed["type"])))
    if isinstance(dropped, dict) and "type" in dropped:
        types = types.difference(_fitting(as_list(dropped["type"])))
    return types


def may_pass_unknown(table: Mapping[str, Any]) -> bool:
    """Whether an event of a type that relay does not know may pass, though none certainly does."""
    passed = table.get("tagpass")
    if not (isinstance(passed, dict) and set(passed) == {"type"}) or UNKNOWN in types_passed(table):
        return False
    others = [each for each in as_list(passed["type"]) if isinstance(each, str) and each not in _KNOWN]
    return bool(others and types_passed(table))


def taken_over(table: Mapping[str, Any]) -> dict[str, str]:
    """The filters of a table that relay's sources have too, each with relay's name. An empty one says nothing."""
    return {key: ours for key, ours in FILTERS.items() if table.get(key) not in (None, [], {})}


def wrong_patterns(patterns: object) -> str:
    """Why these are no patterns; empty when they are."""
    if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
        return 'must be as in tagpass = { type = ["alarm"] }'
    try:
        glob_matcher(patterns)
    except ValueError as error:
        return str(error)
    return ""


def _passing(patterns: list[Any]) -> frozenset[str]:
    fitting = _fitting(patterns)
    names_another = any(isinstance(each, str) and _WORD.fullmatch(each) and each not in _KNOWN for each in patterns)
    return fitting | {UNKNOWN} if names_another or not fitting else fitting


def _fitting(patterns: list[Any]) -> frozenset[str]:
    """The types that patterns fit; the unknown ones only where they fit all."""
    try:
        fits = glob_matcher([each for each in patterns if isinstance(each, str)])
    except ValueError:  # no glob: the settings say so, with its place
        return frozenset(TYPES)
    fitting = frozenset(filter(fits, TYPES))
    return fitting if fitting >= _KNOWN else fitting & _KNOWN


def as_list(value: object) -> list[Any]:
    """What may be a list, one thing or nothing."""
    return value if isinstance(value, list) else [] if value is None else [value]
