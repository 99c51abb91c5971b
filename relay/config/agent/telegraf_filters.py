"""Telegraf's filters in a plugin's table, and the event types that they let pass. Pure.

A type that relay does not know, from a newer router, has the label `log` here (relay.events.ssr.mapping). A `tagdrop`
drops it when it matches every type. A `tagpass` lets it pass when it matches every type or no known type, or names
another type; a `tagpass` with a narrow glob may let it pass (`may_pass_unknown`).
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
    "fieldinclude": "fieldpass",  # the newer name
    "pass": "fieldpass",  # the oldest name
    "fielddrop": "fielddrop",
    "fieldexclude": "fielddrop",
    "drop": "fielddrop",
}
"""Telegraf's filters that relay's sources have too, with relay's names."""
OTHER_FILTERS: Final = ("namepass", "namedrop", "taginclude", "tagexclude", "metricpass")
_KNOWN: Final = frozenset(TYPES) - {UNKNOWN}
_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")


def types_passed(table: Mapping[str, Any]) -> frozenset[str]:
    """The event types that a table's filters let pass, as far as the tag `type` decides it."""
    passed, dropped = table.get("tagpass"), table.get("tagdrop")
    types = frozenset(TYPES)
    if isinstance(passed, dict) and set(passed) == {"type"}:  # of several tags, any one is enough to pass
        patterns = as_list(passed["type"])
        matched = _matched(patterns)
        names_another = any(isinstance(each, str) and _WORD.fullmatch(each) and each not in _KNOWN for each in patterns)
        types &= matched | {UNKNOWN} if names_another or not matched else matched
    if isinstance(dropped, dict) and "type" in dropped:
        types -= _matched(as_list(dropped["type"]))
    return types


def may_pass_unknown(table: Mapping[str, Any]) -> bool:
    """Whether an event of a type that relay does not know may pass, although none certainly does."""
    passed = table.get("tagpass")
    if not (isinstance(passed, dict) and set(passed) == {"type"}) or UNKNOWN in types_passed(table):
        return False
    others = [each for each in as_list(passed["type"]) if isinstance(each, str) and each not in _KNOWN]
    return bool(others and types_passed(table))


def taken_over(table: Mapping[str, Any]) -> dict[str, str]:
    """The filters of a table that relay's sources have too, each with relay's name. An empty filter has no effect."""
    return {key: ours for key, ours in FILTERS.items() if table.get(key) not in (None, [], {})}


def wrong_patterns(patterns: object) -> str:
    """Why a value is not a list of patterns; empty when it is."""
    if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
        return 'must be as in tagpass = { type = ["alarm"] }'
    try:
        glob_matcher(patterns)
    except ValueError as error:
        return str(error)
    return ""


def _matched(patterns: list[Any]) -> frozenset[str]:
    """The types that patterns match; UNKNOWN only when they match all types."""
    try:
        matches = glob_matcher([each for each in patterns if isinstance(each, str)])
    except ValueError:  # the validation of the settings reports it, with its location
        return frozenset(TYPES)
    matched = frozenset(filter(matches, TYPES))
    return matched if matched >= _KNOWN else matched & _KNOWN


def as_list(value: object) -> list[Any]:
    """A value that can be a list, one element, or missing, as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]
