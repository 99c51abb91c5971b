"""`relay archive verify`: whether anything is missing from an archive, and whether it is known why.

For people, faults on standard error, and on standard output what each originator has, and one sentence about all.
`--json` prints {"schema": "relay.archive/1", "archive", "pid" (null: nobody writes), "indexed", "first_day" ("": all
    days), "whole", "originators": [ORIGINATOR…], "places": [PLACE…], "warnings": [WARNING…], "more_warnings"}
    ORIGINATOR: {"name" (its folder), "whole", "days": [FIRST, LAST] (empty: no file), "octets", "messages", "numbered",
        "unstructured" (no RFC 5424), "unjudged", "runs", "heard" (RFC 3339: when relay there last spoke; null: never),
        "backlog": {SERVER: BLOCKS} (then), "before": [RUN…] (before the archive's beginning), "missing" (numbers),
        "damaged", "doubles", "malformed" (places), "being_written" (octets), "places": [PLACE…] (the first of them),
        "faults": [FINDING…], "told_as_lost": [FINDING…], "waiting": [FINDING…], "gaps": GAPS}
    FINDING: {"kind", "run", "type" ("": all), "numbers", "ranges": [[FIRST, LAST]…], "more_ranges"}
    PLACE: {"kind", "path", "offset", "octets", "run", "type", "number"}
    WARNING: {"kind", "path", "octets"}
    GAPS: {"told", "events", "unknown", "unnamed", "explained", "forgotten", "causes": {CAUSE: EVENTS}}
Kinds and numbers mean what `relay.archive.completeness` and `relay.archive.verify` say. The exit code is 65 when
something is wrong, 0 when the archive is whole.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from relay.cli.event_filters import complete_type, event_types
from relay.cli.group import Group
from relay.cli.options import config_option, options
from relay.cli.state import existing
from relay.cli.times import read_time
from relay.values.text import decoded, escaped

if TYPE_CHECKING:
    from relay.archive.judgement import CompletenessFinding, Judgement, JudgementScope
    from relay.archive.spans import Span
    from relay.archive.verify import ArchiveCheck, ArchiveDefect, ArchiveNotice, Originator

SCHEMA: Final = "relay.archive/1"
NOT_WHOLE: Final = 65
MOST_TOLD: Final = 20
"""How many faults of an originator are printed for people."""

_PLACES: Final = {
    "damaged": "{octets} octets are no message",
    "double": "run {run}, type {type}: number {number} stands there a second time",
    "malformed": "run {run}, type {type}: number {number} is no longer a message as relay writes it",
    "index": "the index is damaged: what it knew of some files and numbers is not known",
    "file cut": "cut: {octets} octets are gone that the index knows",
    "file gone": "gone, with {octets} octets that the index knows",
}
_FINDINGS: Final = {
    "missing": "{events} missing{ranges}; no gap accounts for {them}",
    "scattered": "{events} missing among these{ranges}, too many to compare with gaps",
    "gone": "{events} gone{ranges}; the index knows that {they} stood here",
    "unfinished": "{events} of which parts are missing{ranges}",
    "run missing": "there is nothing at all of this run, which lay between two others",
}
_WARNINGS: Final = {
    "foreign": "not made by relay, and not read",
    "open": "others than its owner may write to it",
    "copy": "a copy of what relay cut off or found damaged when it started, {octets} octets",
    "uncommitted": "{octets} octets at its end were not committed; relay cuts them off (after a copy) when it starts",
}
_REASONS: Final = (
    "a server that takes only some `types` gets none of the others: name those it takes with --type. One that chooses "
    "by `facilities` or `severity` gets numbers with holes, and nothing in the messages tells that. Where older files "
    "were removed on purpose, begin later with --from"
)


@click.group(cls=Group)
@config_option
def archive() -> None:
    """Look into the archive of `relay receive`. Nothing is changed."""


@archive.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(readable=False))
@click.option(
    "--from",
    "since",
    metavar="TIME",
    help="Leave out the days of receipt before: 2026-11-30, yesterday, -30d; in UTC without a zone.  [default: none]",
)
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    shell_complete=complete_type,
    help="Judge only events of this type; repeatable.  [default: all]",
)
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="NAME",
    help="What routers call this log server: gaps of others account for nothing; repeatable.  [default: any]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@config_option
@click.pass_context
def verify(
    context: click.Context,
    *,
    folder: str | None,
    since: str | None,
    types: tuple[str, ...],
    servers: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check each originator's numbers, gaps and files; 65 when something is missing, damaged or double.

    DIR is an archive; by default the configuration's, whose own default is /var/log/relay. A message that
    `relay receive` is writing meanwhile is not a fault.

    In each run relay counts the events of each type from 1 and without a hole. What is missing is told by run, type
    and numbers, unless a gap event accounts for it. A server that takes only some `types` gets none of the others:
    name those that it takes with --type. One that chooses by `facilities` or `severity` gets numbers with holes, which
    look as if events were missing: nothing in the messages tells that.

    Not seen are an octet that was changed inside a message, doubles of messages without a number (other programs'), and
    what came after the last event that is there; since when nothing has been heard is told. How many doubles were
    left out when they came is not kept in the archive.
    """
    check = _check(context, folder, since, _terms(types, servers, since))
    whole = _print_json(check) if as_json else _print_text(check)
    context.exit(0 if whole else NOT_WHOLE)


def _terms(types: tuple[str, ...], servers: tuple[str, ...], since: str | None) -> "JudgementScope":
    from relay.archive.judgement import JudgementScope

    labels = frozenset(kind.label.encode() for kind in event_types(types))
    return JudgementScope(labels, frozenset(servers), begun=since is not None)


def _check(context: click.Context, folder: str | None, since: str | None, terms: "JudgementScope") -> "ArchiveCheck":
    from datetime import UTC

    from relay.archive.query import day_of
    from relay.archive.verify import ArchiveCheck
    from relay.config.configuration import read_settings
    from relay.system.disk import Disk
    from relay.values.moment import first_moment

    begin = read_time(since, "--from", first_moment, UTC)
    if folder is not None:
        folder = existing(folder, "name another folder")
    else:
        folder = read_settings(options(context).config_paths, options(context).choice).receiver.archive
    return ArchiveCheck(Disk(), folder, terms, "" if begin is None else day_of(begin))


# --- For people ---


def _print_text(check: "ArchiveCheck") -> bool:
    whole = True
    sums: Counter[str] = Counter()
    for each in check.originators():
        _print_originator(each)
        whole &= each.whole
        sums.update(
            originators=1,
            messages=each.judgement.messages,
            numbered=each.judgement.numbered,
            missing=each.judgement.missing,
            places=each.broken,
        )
    _print_surroundings(check)
    whole &= not check.places
    sums["places"] += len(check.places)
    if sums["missing"]:
        _fault(_REASONS)
    click.echo(f"{escaped(check.folder)}: {_verdict(sums, whole=whole)}; {_held(sums)}")
    if not check.indexed:
        click.echo("there is no index: what was taken out of the files is seen by the numbers alone")
    return whole


def _print_surroundings(check: "ArchiveCheck") -> None:
    for place in check.places:
        _fault(_place(place))
    for warned in check.warnings:
        click.echo(f"  {escaped(warned.path)}: {_WARNINGS[warned.kind].format(octets=warned.octets)}")
    if check.unwarned:
        click.echo(f"  … and {check.unwarned} more of these")


def _verdict(sums: "Counter[str]", *, whole: bool) -> str:
    if whole:
        return "whole"
    missing = f"{_count(sums['missing'], 'event')} missing" if sums["missing"] else ""
    places = f"{_count(sums['places'], 'place')} damaged or double" if sums["places"] else ""
    return ", ".join(filter(None, ("not whole", missing, places)))


def _held(sums: "Counter[str]") -> str:
    messages, originators = _count(sums["messages"], "message"), _count(sums["originators"], "originator")
    return f"{messages} of {originators}, {sums['numbered']} of them numbered"


def _print_originator(each: "Originator") -> None:
    faults = list(_faults(each))
    for text in faults[:MOST_TOLD]:
        _fault(text)
    if len(faults) > MOST_TOLD or each.broken > len(each.places):
        more = len(faults) - min(len(faults), MOST_TOLD) + each.broken - len(each.places)
        _fault(f"{each.name}: … and {_count(more, 'more fault')}")
    click.echo(escaped(_summary(each)))
    for line in _details(each.judgement):
        click.echo(f"  {escaped(line)}")
    if each.being_written:
        click.echo("  a message is being written at the end")


def _fault(text: str) -> None:
    click.echo(f"relay: {escaped(text)}", err=True)


def _faults(each: "Originator") -> Iterator[str]:
    """What is missing first: of what follows only some is printed."""
    yield from (f"{each.name}: {_whose(finding)}: {_missing(finding)}" for finding in each.judgement.faults)
    if unjudged := each.judgement.unjudged:
        yield f"{each.name}: {_count(unjudged, 'message')} not judged: too many runs, or too many holes before"
    yield from map(_place, each.places)


def _place(place: "ArchiveDefect") -> str:
    named = _PLACES[place.kind].format(
        octets=place.octets, run=decoded(place.run), type=decoded(place.type), number=place.number
    )
    where = f"{place.path}: offset {place.offset}" if place.kind in {"damaged", "double", "malformed"} else place.path
    return f"{where}: {named}"


def _whose(finding: "CompletenessFinding") -> str:
    run = f"run {decoded(finding.run)}"
    return f"{run}, type {decoded(finding.type)}" if finding.type else run


def _missing(finding: "CompletenessFinding") -> str:
    one = finding.numbers == 1
    return _FINDINGS[finding.kind].format(
        events=f"{_count(finding.numbers, 'event')} {'is' if one else 'are'}",
        ranges=f" ({_ranges(finding)})",
        them="it" if one else "them",
        they="it" if one else "they",
    )


def _ranges(finding: "CompletenessFinding") -> str:
    named = ", ".join(map(_span, finding.ranges))
    return f"{named} and {_count(finding.unnamed, 'more range')}" if finding.unnamed else named


def _span(span: "Span") -> str:
    first, last = span
    return str(first) if first == last else f"{first} to {last}"


def _summary(each: "Originator") -> str:
    found = each.judgement
    days = f", received {' to '.join(dict.fromkeys(each.days))}" if each.days else ""
    others = found.messages - found.numbered
    numbered = f"{found.numbered} numbered in {_count(found.runs, 'run')}" if found.numbered else ""
    foreign = f"{others} without a number" if others else ""
    parts = ", ".join(filter(None, (numbered, foreign)))
    verdict = "NOT WHOLE" if not each.whole else "whole" if found.numbered else "without numbers to judge by"
    return f"{each.name}: {verdict}; {_count(found.messages, 'message')}{f' ({parts})' if parts else ''}{days}"


def _details(found: "Judgement") -> Iterator[str]:
    if found.heard is not None:
        waits = ", ".join(
            f"{_count(blocks, 'block')} for {server}" for server, blocks in found.backlog.items() if blocks
        )
        yield f"relay there last spoke at {_time(found.heard)}{f'; then waited {waits}' if waits else ''}"
    gaps = found.gaps
    if gaps.told:
        unknown = f", and {_count(gaps.unknown, 'loss', 'losses')} of unknown size" if gaps.unknown else ""
        unnamed = f" ({gaps.unnamed} of them without saying which)" if gaps.unnamed else ""
        lost = f"{_count(gaps.events, 'event')} lost{unnamed}{unknown}"
        yield f"told by relay itself: {lost}, in {_count(gaps.told, 'gap')}"
        yield from (f"  {events or '?'}: {cause}" for cause, events in gaps.causes)
    yield from (
        f"{_whose(finding)}: {_count(finding.numbers, 'event')} told as lost ({_ranges(finding)})"
        for finding in found.explained[:MOST_TOLD]
    )
    yield from (
        f"{_whose(finding)}: {_count(finding.numbers, 'event')} may still be on the way ({_ranges(finding)})"
        for finding in found.waiting[:MOST_TOLD]
    )
    yield from (f"the archive begins after run {decoded(run)}" for run in found.before[:MOST_TOLD])


def _time(microseconds: int) -> str:
    from relay.syslog.rfc5424 import format_timestamp

    return format_timestamp(microseconds).decode()


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


# --- For programs ---


def _print_json(check: "ArchiveCheck") -> bool:
    found = [_originator(each) for each in check.originators()]
    whole = not check.places and all(each["whole"] for each in found)
    told = {
        "schema": SCHEMA,
        "archive": check.folder,
        "pid": check.pid,
        "indexed": check.indexed,
        "first_day": check.first_day,
        "whole": whole,
        "originators": found,
        "places": list(map(_place_object, check.places)),
        "warnings": [_warning_object(warned) for warned in check.warnings],
        "more_warnings": check.unwarned,
    }
    click.echo(json.dumps(told, ensure_ascii=False))
    return whole


def _originator(each: "Originator") -> dict[str, object]:
    found = each.judgement
    return {
        "name": each.name,
        "whole": each.whole,
        "days": each.days,
        "octets": each.octets,
        "messages": found.messages,
        "numbered": found.numbered,
        "unstructured": found.unstructured,
        "unjudged": found.unjudged,
        "runs": found.runs,
        "heard": None if found.heard is None else _time(found.heard),
        "backlog": found.backlog,
        "before": list(map(decoded, found.before)),
        "missing": found.missing,
        "damaged": each.damaged,
        "doubles": each.doubles,
        "malformed": each.malformed,
        "being_written": each.being_written,
        "places": list(map(_place_object, each.places)),
        "faults": list(map(_finding_object, found.faults)),
        "told_as_lost": list(map(_finding_object, found.explained)),
        "waiting": list(map(_finding_object, found.waiting)),
        "gaps": {**found.gaps._asdict(), "causes": dict(found.gaps.causes)},
    }


def _finding_object(finding: "CompletenessFinding") -> dict[str, object]:
    return {
        "kind": finding.kind,
        "run": decoded(finding.run),
        "type": decoded(finding.type),
        "numbers": finding.numbers,
        "ranges": finding.ranges,
        "more_ranges": finding.unnamed,
    }


def _place_object(place: "ArchiveDefect") -> dict[str, object]:
    return {**place._asdict(), "run": decoded(place.run), "type": decoded(place.type)}


def _warning_object(warned: "ArchiveNotice") -> dict[str, object]:
    return warned._asdict()
