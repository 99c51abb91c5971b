"""The options with which `relay events` chooses, and names in them that no event has.

An option that is given several times widens the choice, different options narrow it (`relay.program.history`).
"""

import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeVar

import click

from relay.cli import parameter_types as types
from relay.cli.options import repeatable_option
from relay.cli.parameter_types import FieldGlob, Glob, Network
from relay.errors import NoInputError
from relay.program.history.event_filter import EventFilter, names_in
from relay.program.history.past_event import Item, PastEvent
from relay.values.event import EventType
from relay.values.glob_matcher import GlobMatcher

MAX_KNOWN: Final = 10_000
"""How many names of a kind are remembered, to find the nearest one."""
_MAX_LISTED: Final = 5
_WILD: Final = frozenset("*?[")
_Command = TypeVar("_Command", bound=Callable[..., Any])


class ChosenFilters(NamedTuple):
    """The filters as they are given."""

    types: tuple[EventType, ...]
    routers: tuple[str, ...]
    severities: tuple[int, ...]
    msgids: tuple[Glob, ...]
    programs: tuple[Glob, ...]
    fields: tuple[FieldGlob, ...]
    failed: bool
    since: int | None
    until: int | None
    texts: tuple[str, ...]
    expressions: tuple[re.Pattern[bytes], ...]
    originators: tuple[Glob, ...]
    peers: tuple[Network, ...]
    identities: tuple[Glob, ...]
    received_from: int | None
    received_to: int | None

    @property
    def of_archive(self) -> bool:
        """Whether a condition can be met in an archive alone."""
        limits = (self.received_from, self.received_to)
        return bool(self.originators or self.peers or self.identities) or any(limit is not None for limit in limits)

    def event_filter(self) -> EventFilter:
        """What an event must meet."""
        globs_by_name: dict[str, list[Glob]] = {}
        for field in self.fields:
            globs_by_name.setdefault(field.name, []).append(field.glob)
        return EventFilter(
            types=frozenset(kind.label for kind in self.types),
            routers=frozenset(map(os.fsencode, self.routers)),
            severity=max(self.severities, default=None),
            msgids=_any_of(self.msgids) if self.msgids else None,
            programs=_any_of(self.programs) if self.programs else None,
            fields=tuple((os.fsencode(name), _any_of(globs)) for name, globs in globs_by_name.items()),
            failed=self.failed,
            earliest=self.since,
            latest=self.until,
            texts=tuple(map(os.fsencode, self.texts)),
            expressions=self.expressions,
            originators=_any_of(self.originators) if self.originators else None,
            peers=self.peers,
            identities=_any_of(self.identities) if self.identities else None,
            received_from=self.received_from,
            received_to=self.received_to,
        )


def _any_of(globs: Iterable[Glob]) -> GlobMatcher:
    tests = [glob.matches for glob in globs]
    return lambda text: any(matches(text) for matches in tests)


def type_option(text: str) -> Callable[[_Command], _Command]:
    """The option --type, as `types`; `text` is the beginning of its help."""
    return repeatable_option(
        "--type",
        "types",
        "TYPE",
        f"{text} (default: all)",
        type=types.event_type,
        shell_complete=_completion(types.EVENT_TYPES),
    )


def _completion(names: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """A function that returns the names which a shell offers."""
    return lambda _context, _parameter, incomplete: [name for name in names if name.startswith(incomplete)]


_FILTER_OPTIONS: Final = (
    type_option("Only events of this type"),
    repeatable_option("--router", "routers", "NAME", "Only events of this router, by its name or its hostname"),
    repeatable_option(
        "--severity",
        "severities",
        "NAME",
        "Only events of this severity or a more severe one: emerg, alert, crit, err, warning, notice, info, debug; or "
        "a router's critical, major, minor",
        type=types.severity,
        shell_complete=_completion(types.SEVERITIES),
    ),
    repeatable_option(
        "--msgid",
        "msgids",
        "GLOB",
        "Only messages with this MSGID (of an audit event, its first record's type): 'USER_*'",
        type=types.glob,
    ),
    repeatable_option(
        "--program",
        "programs",
        "GLOB",
        "Only messages of this program (APP-NAME, or the tag before the text): sshd, '%ASA-*'",
        type=types.glob,
    ),
    repeatable_option(
        "--field",
        "fields",
        "NAME=GLOB",
        "Only events whose parameter NAME has this value: acct=root, 'exe=/usr/bin/*'",
        type=types.field_glob,
    ),
    click.option(
        "--failed", is_flag=True, help="Only failures: res=failed, success=no, permitted=0, denials, failed traffic."
    ),
    click.option(
        "--from",
        "since",
        metavar="TIME",
        type=types.beginning,
        help=f"Only events from this time on: {types.TIME_FORMS}; local time without a zone.",
    ),
    click.option(
        "--to",
        "until",
        metavar="TIME",
        type=types.end,
        help="Only events up to this time, in the same forms; a day includes all its hours.",
    ),
    repeatable_option(
        "--grep", "texts", "TEXT", "Only messages that contain this text, in upper and lower case as given"
    ),
    repeatable_option(
        "--regex",
        "expressions",
        "REGEX",
        "Only messages in which this regular expression (of Python) is found: '(?i)denied|refused'",
        type=types.regular_expression,
    ),
    repeatable_option(
        "--originator",
        "originators",
        "GLOB",
        "Only these originators of an archive, by the names of their folders: fw1, 'edge*', '~disputed/*'",
        type=types.glob,
    ),
    repeatable_option(
        "--peer",
        "peers",
        "ADDRESS",
        "Only messages of an archive that came from this address or network: 192.0.2.7, 2001:db8::/32",
        type=types.network,
    ),
    repeatable_option(
        "--identity",
        "identities",
        "GLOB",
        "Only messages of an archive whose sender proved this identity, a key or a certificate: 'SHA256:*'",
        type=types.glob,
    ),
    click.option(
        "--received-from",
        metavar="TIME",
        type=types.beginning,
        help="Only messages of an archive that were received from this time on; forms as for --from.",
    ),
    click.option(
        "--received-to",
        metavar="TIME",
        type=types.end,
        help="Only messages of an archive that were received up to this time.",
    ),
)


def filter_options(command: _Command) -> _Command:
    """Give a command the options that `ChosenFilters` holds."""
    for option in reversed(_FILTER_OPTIONS):
        command = option(command)
    return command


def unknown_name(
    chosen: ChosenFilters, shown: int, history: Callable[[EventFilter], Iterable[Item]], *, in_archive: bool
) -> NoInputError | None:
    """The error for the first name in the filters that no event of the whole history has; None when each is known.

    `shown` events met the filters, so each name is known unless there are several for an option. Otherwise the history
    is read without filters until all names are found. An archive is searched for the names alone, because it can be
    large, and patterns are not looked for.
    """
    sought: list[tuple[str, str, GlobMatcher]] = [
        *(("router", name, name.__eq__) for name in chosen.routers),
        *(("MSGID", glob.text, glob.matches) for glob in chosen.msgids if not (in_archive and _WILD & {*glob.text})),
        *(("parameter", name, name.__eq__) for name in dict.fromkeys(field.name for field in chosen.fields)),
    ]
    if not sought or (shown and len(chosen.routers) <= 1 and len(chosen.msgids) <= 1):
        return None
    known: dict[str, set[str]] = {"router": set(), "MSGID": set(), "parameter": set()}
    texts = tuple(os.fsencode(name) for _, name, _ in sought) if in_archive else ()
    for event in (item for item in history(EventFilter(texts=texts)) if isinstance(item, PastEvent)):
        present = dict(zip(known, names_in(event.message), strict=True))
        sought = [each for each in sought if not any(map(each[2], present[each[0]]))]
        if not sought:
            return None
        for kind, names in present.items():
            if len(known[kind]) < MAX_KNOWN:
                known[kind] |= names
    kind, name, _ = sought[0]
    remedy = types.name_remedy(name, sorted(known[kind]), _MAX_LISTED) if known[kind] else "no event here has one"
    if in_archive and not known[kind]:
        remedy = "check its spelling"
    return NoInputError(f'{kind} "{name}"', "no event here has it", remedy)
