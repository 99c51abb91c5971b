"""The options with which `relay events` chooses: what they mean, and the names in them that no event has.

An option that is given several times widens, different options narrow (`relay.program.history.Wanted`).
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from relay.cli.times import FORMS, read_time
from relay.errors import NoInputError
from relay.values.did_you_mean import did_you_mean
from relay.values.moment import first_moment, last_moment

if TYPE_CHECKING:
    from relay.program.history import EventFilter, Item
    from relay.values.event import EventType
    from relay.values.glob_matcher import GlobMatcher

_Command = TypeVar("_Command", bound=Callable[..., Any])
SEVERITIES: Final[Mapping[str, int]] = {
    "emerg": 0,
    "alert": 1,
    "crit": 2,
    "err": 3,
    "warning": 4,
    "notice": 5,
    "info": 6,
    "debug": 7,
    # As they are written elsewhere, and an alarm's as `relay.events.ssr.mapping` maps them.
    "emergency": 0,
    "critical": 2,
    "error": 3,
    "major": 3,
    "warn": 4,
    "minor": 4,
    "informational": 6,
}
_MOST_NAMED: Final = 5
MAX_KNOWN: Final = 10_000
"""So many names of a kind are remembered, to find the nearest one."""


class ChosenFilters(NamedTuple):
    """The filters as they are given."""

    types: tuple[str, ...]
    routers: tuple[str, ...]
    severities: tuple[str, ...]
    msgids: tuple[str, ...]
    fields: tuple[str, ...]
    failed: bool
    since: str | None
    until: str | None
    texts: tuple[str, ...]


def complete_type(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """What a shell offers for --type."""
    from relay.values.event import EventType

    return [kind.label for kind in EventType if kind.label.startswith(begun)]


def _complete_severity(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    return [name for name in SEVERITIES if name.startswith(begun)]


def filter_options(command: _Command) -> _Command:
    """Give a command the options that `ChosenFilters` holds."""
    made = (
        click.option(
            "--type",
            "types",
            multiple=True,
            metavar="TYPE",
            shell_complete=complete_type,
            help="Only events of this type; repeatable.  [default: all]",
        ),
        click.option(
            "--router",
            "routers",
            multiple=True,
            metavar="NAME",
            help="Only events of this router (its name or its hostname); repeatable.",
        ),
        click.option(
            "--severity",
            "severities",
            multiple=True,
            metavar="NAME",
            shell_complete=_complete_severity,
            help="Only events of this severity or a more severe one: emerg, alert, crit, err, warning, notice, info, "
            "debug; or a router's critical, major, minor.",
        ),
        click.option(
            "--msgid",
            "msgids",
            multiple=True,
            metavar="GLOB",
            help="Only messages with this MSGID (of an audit event, its first record's type): 'USER_*'; repeatable.",
        ),
        click.option(
            "--field",
            "fields",
            multiple=True,
            metavar="NAME=GLOB",
            help="Only events whose parameter NAME has this value: acct=root, 'exe=/usr/bin/*'; repeatable.",
        ),
        click.option(
            "--failed",
            is_flag=True,
            help="Only failures: res=failed, success=no, permitted=0, denials, failed traffic.",
        ),
        click.option("--from", "since", metavar="TIME", help=f"From then on: {FORMS}; local time without a zone."),
        click.option(
            "--to", "until", metavar="TIME", help="Up to that moment, in the same forms; a day with all its hours."
        ),
        click.option(
            "--grep",
            "texts",
            multiple=True,
            metavar="TEXT",
            help="Only messages that contain this text, in upper and lower case as given; repeatable.",
        ),
    )
    for option in reversed(made):
        command = option(command)
    return command


def wanted(chosen: ChosenFilters) -> "EventFilter":
    """What the filters ask for; a usage error names what makes no sense, and the nearest name."""
    from relay.program.history import EventFilter

    return EventFilter(
        types=frozenset(kind.label for kind in event_types(chosen.types)),
        routers=frozenset(map(os.fsencode, chosen.routers)),
        severity=max((_severity(name) for name in chosen.severities), default=None),
        msgids=_any_of(chosen.msgids, "--msgid") if chosen.msgids else None,
        fields=tuple((os.fsencode(name), _any_of(globs, "--field")) for name, globs in _fields(chosen.fields).items()),
        failed=chosen.failed,
        earliest=read_time(chosen.since, "--from", first_moment),
        latest=read_time(chosen.until, "--to", last_moment),
        texts=tuple(map(os.fsencode, chosen.texts)),
    )


def event_types(labels: tuple[str, ...]) -> "frozenset[EventType]":
    """The types that --type names."""
    from relay.values.event import EventType

    known = {kind.label: kind for kind in EventType}
    return frozenset(_known(label.lower(), known, "type", "--type") for label in labels)


_Value = TypeVar("_Value")


def _known(name: str, known: Mapping[str, _Value], noun: str, option: str) -> _Value:
    if name in known:
        return known[name]
    near = did_you_mean(name, known) or f"the names are {', '.join(known)}"
    raise click.BadParameter(f'there is no {noun} "{name}"; {near}', param_hint=option)


def _severity(name: str) -> int:
    return _known(name.lower(), SEVERITIES, "severity", "--severity")


def _fields(given: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The globs for each name."""
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        name, equals, glob = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f'"{text}" must be NAME=GLOB, as acct=root', param_hint="--field")
        found[name] = (*found.get(name, ()), glob)
    return found


def _any_of(globs: tuple[str, ...], option: str) -> "GlobMatcher":
    from relay.values.glob_matcher import glob_matcher

    try:
        matchers = [glob_matcher([glob]) for glob in globs]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
    return lambda text: any(matches(text) for matches in matchers)


# --- Names that no event has ---


def unknown_name(chosen: ChosenFilters, shown: int, history: "Callable[[], Iterable[Item]]") -> NoInputError | None:
    """The first name in the filters that no event of the whole history has; None when there is none.

    `shown` events met the filters, so each name is known unless there are several for an option. Otherwise the history
    is read without filters until all names are found.
    """
    from relay.program.history import PastEvent, names_in

    asked = (("router", chosen.routers), ("MSGID", chosen.msgids), ("parameter", tuple(_fields(chosen.fields))))
    sought = [(kind, name) for kind, names in asked for name in names]
    if not sought or (shown and len(chosen.routers) <= 1 and len(chosen.msgids) <= 1):
        return None
    known: dict[str, set[str]] = {kind: set() for kind, _ in asked}
    for item in history():
        if not isinstance(item, PastEvent):
            continue
        there = dict(zip(known, names_in(item.message), strict=True))
        sought = [(kind, name) for kind, name in sought if not _is_among(name, there[kind], glob=kind == "MSGID")]
        if not sought:
            return None
        for kind, names in there.items():
            if len(known[kind]) < MAX_KNOWN:
                known[kind] |= names
    kind, name = sought[0]
    listed = sorted(known[kind])
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    there_are = f"there are {', '.join(listed[:_MOST_NAMED])}{more}" if listed else "no event here has one"
    return NoInputError(f'{kind} "{name}"', "no event here has it", did_you_mean(name, listed) or there_are)


def _is_among(name: str, known: frozenset[str], *, glob: bool) -> bool:
    return any(map(_any_of((name,), "--msgid"), known)) if glob else name in known
