"""`relay archive verify`: whether anything is missing from an archive, and whether the cause is known.

For people, faults go to stderr; stdout gets the holdings of each originator, and one sentence about the whole archive.
`--json` prints {"schema": "relay.archive/1", "archive", "pid" (null: no process writes), "indexed", "first_day" ("":
    all days), "whole", "originators": [ORIGINATOR…], "places": [PLACE…], "warnings": [WARNING…], "more_warnings"}
    ORIGINATOR: {"name" (its folder), "whole", "days": [FIRST, LAST] (empty: no file), "octets", "messages", "numbered",
        "unstructured" (not RFC 5424), "unjudged", "runs", "heard" (RFC 3339: relay's last own event; null: none),
        "backlog": {SERVER: BLOCKS} (then), "before": [RUN…] (before the archive's beginning), "missing" (numbers),
        "damaged", "doubles", "malformed" (places), "being_written" (octets), "places": [PLACE…] (the first of them),
        "faults": [FINDING…], "told_as_lost": [FINDING…], "waiting": [FINDING…], "gaps": GAPS}
    FINDING: {"kind", "run", "type" ("": all), "numbers", "ranges": [[FIRST, LAST]…], "more_ranges"}
    PLACE: {"kind", "path", "offset", "octets", "run", "type", "number"}
    WARNING: {"kind", "path", "octets"}
    GAPS: {"told", "events", "unknown", "unnamed", "explained", "forgotten", "causes": {CAUSE: EVENTS}}
`relay.archive.completeness.message_trail` and `relay.archive.verify` define the kinds and the numbers. The exit code is
65 when something is wrong, 0 when the archive is whole.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import click

from relay.archive.completeness.judgement import CompletenessFinding, Judgement, JudgementScope
from relay.archive.query import day_of
from relay.archive.verify import ArchiveCheck, ArchiveDefect, Originator
from relay.cli.event_filters import type_option
from relay.cli.options import options, repeatable_option, usual_options
from relay.cli.output import print_json, print_line, report
from relay.cli.parameter_types import beginning_in_utc
from relay.cli.state import existing
from relay.config.configuration import read_settings
from relay.syslog.rfc5424 import format_timestamp
from relay.system.disk import Disk
from relay.values.event import EventType
from relay.values.text import counted, decoded

SCHEMA: Final = "relay.archive/1"
NOT_WHOLE: Final = 65
MAX_PRINTED: Final = 20
"""How many findings of a kind are printed for each originator."""

_DEFECTS: Final = {
    "damaged": "{octets} octets are not a message",
    "double": "run {run}, type {type}: number {number} is a duplicate",
    "malformed": "run {run}, type {type}: number {number} is no longer a message as relay writes it",
    "index": "the index is damaged: its entries about some files and numbers are lost",
    "file cut": "cut: {octets} octets are missing that the index knows",
    "file gone": "missing, with {octets} octets that the index knows",
}
_WITH_OFFSET: Final = frozenset({"damaged", "double", "malformed"})
_FINDINGS: Final = {
    "missing": "{events} missing{ranges}; no gap accounts for {them}",
    "scattered": "{events} missing among these{ranges}, too many to compare with gaps",
    "gone": "{events} missing{ranges}; the index knows that the archive had {them}",
    "unfinished": "{events} incomplete, because parts of {them} are missing{ranges}",
    "run missing": "there is nothing at all of this run, which came between two others",
}
_NOTICES: Final = {
    "foreign": "not made by relay, and not read",
    "open": "users other than its owner can write to it",
    "copy": "a copy of what relay cut off or found damaged when it started, {octets} octets",
    "uncommitted": "{octets} octets at its end were not committed; relay cuts them off (after a copy) when it starts",
}
_INNOCENT_CAUSES: Final = (
    "a server that gets only some `types` misses all others: name its types with --type. A server that chooses by "
    "`facilities` or `severity` gets numbers with holes, and the messages do not show that it does. If older files "
    "were removed on purpose, begin later with --from"
)


@click.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(readable=False))
@click.option(
    "--from",
    "since",
    metavar="TIME",
    type=beginning_in_utc,
    help="Leave out earlier days of receipt: 2026-11-30, yesterday, -30d; in UTC without a zone.  [default: none]",
)
@type_option("Judge only events of this type")
@repeatable_option(
    "--server",
    "servers",
    "NAME",
    "Count only gaps of the server that routers call by this name, and gaps for all servers (default: count every gap)",
)
@usual_options
def verify(
    context: click.Context,
    *,
    folder: str | None,
    since: int | None,
    types: tuple[EventType, ...],
    servers: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check each originator's numbers, gaps and files; exit with 65 when something is missing, damaged or duplicate.

    DIR is an archive; by default the configuration's, whose own default is /var/log/relay. A message that
    `relay receive` is writing meanwhile is not a fault.

    In each run, relay numbers the events of each type from 1 and without a hole. Missing events are reported by run,
    type and numbers, unless a gap event accounts for them. A server that gets only some `types` misses all others: name
    its types with --type. A server that chooses by `facilities` or `severity` gets numbers with holes, which look as if
    events were missing: the messages do not show that it does.

    It cannot see a changed octet inside a message, duplicates of messages without a number (those of other programs),
    and missing events after the last one; therefore it prints when relay was last heard. The archive does not keep how
    many duplicates were left out on arrival.
    """
    if folder is not None:
        folder = existing(folder, "name another folder")
    else:
        folder = read_settings(options(context).config_paths, options(context).choice).receiver.archive
    labels = frozenset(kind.label.encode() for kind in types)
    scope = JudgementScope(labels, frozenset(servers), begun=since is not None)
    check = ArchiveCheck(Disk(), folder, scope, "" if since is None else day_of(since))
    whole = _print_json(check) if as_json else _print_text(check)
    context.exit(0 if whole else NOT_WHOLE)


# --- For people ---


def _print_text(check: ArchiveCheck) -> bool:
    """Print what was found; returns whether the archive is whole."""
    whole = True
    sums: Counter[str] = Counter()
    for originator in check.originators():
        _print_originator(originator)
        whole &= originator.whole
        sums.update(
            originators=1,
            messages=originator.judgement.messages,
            numbered=originator.judgement.numbered,
            missing=originator.judgement.missing,
            defects=originator.broken - originator.doubles,
            duplicates=originator.doubles,
        )
    for defect in check.places:
        report(_defect(defect))
    for notice in check.warnings:
        print_line(f"  {notice.path}: {_NOTICES[notice.kind].format(octets=notice.octets)}")
    if check.unwarned:
        print_line(f"  … and {check.unwarned} more of these")
    if sums["missing"]:
        report(_INNOCENT_CAUSES)
    files_missing = sum(defect.kind == "file gone" for defect in check.places)
    verdict = "whole"
    if check.places or not whole:
        counts = (
            (sums["missing"], "event", " missing"),
            (files_missing, "file", " missing"),
            (sums["defects"] + len(check.places) - files_missing, "place", " damaged"),
            (sums["duplicates"], "duplicate", ""),
        )
        found = [f"{counted(number, noun)}{ending}" for number, noun, ending in counts if number]
        verdict = ", ".join(("not whole", *found))
    held = f"{counted(sums['messages'], 'message')} of {counted(sums['originators'], 'originator')}"
    print_line(f"{check.folder}: {verdict}; {held}, {sums['numbered']} of them numbered")
    if not check.indexed:
        print_line("there is no index: messages that were removed from the files show by their numbers alone")
    return whole and not check.places


def _print_originator(originator: Originator) -> None:
    name, found = originator.name, originator.judgement
    # Missing events first, because only some of the lines are printed.
    faults = []
    for finding in found.faults:
        one = finding.numbers == 1
        events = f"{counted(finding.numbers, 'event')} {'is' if one else 'are'}"
        words = {"events": events, "ranges": f" ({_ranges(finding)})", "them": "it" if one else "them"}
        faults.append(f"{name}: {_of(finding)}: {_FINDINGS[finding.kind].format(**words)}")
    if found.unjudged:
        faults.append(
            f"{name}: {counted(found.unjudged, 'message')} not judged: too many runs, or too many holes before"
        )
    faults += map(_defect, originator.places)
    for fault in faults[:MAX_PRINTED]:
        report(fault)
    more = max(len(faults) - MAX_PRINTED, 0) + originator.broken - len(originator.places)
    if more:
        report(f"{name}: … and {counted(more, 'more fault')}")
    days = f", received {' to '.join(dict.fromkeys(originator.days))}" if originator.days else ""
    numbered = f"{found.numbered} numbered in {counted(found.runs, 'run')}" if found.numbered else ""
    unnumbered = f"{found.messages - found.numbered} without a number" if found.messages > found.numbered else ""
    parts = ", ".join(filter(None, (numbered, unnumbered)))
    verdict = "NOT WHOLE" if not originator.whole else "whole" if found.numbered else "without numbers to judge by"
    print_line(f"{name}: {verdict}; {counted(found.messages, 'message')}{f' ({parts})' if parts else ''}{days}")
    for line in _details(found):
        print_line(f"  {line}")
    if originator.being_written:
        print_line("  a message is being written at the end")


def _details(found: Judgement) -> Iterator[str]:
    if found.heard is not None:
        backlog = [f"{counted(blocks, 'block')} for {server}" for server, blocks in found.backlog.items() if blocks]
        waited = f"; then {', '.join(backlog)} waited" if backlog else ""
        yield f"last heard from relay there at {_time(found.heard)}{waited}"
    gaps = found.gaps
    if gaps.told:
        unnamed = f" ({gaps.unnamed} of them without their numbers)" if gaps.unnamed else ""
        unknown = f", and {counted(gaps.unknown, 'loss', 'losses')} of unknown size" if gaps.unknown else ""
        lost = f"{counted(gaps.events, 'event')} lost{unnamed}{unknown}"
        yield f"reported by relay itself: {lost}, in {counted(gaps.told, 'gap')}"
        yield from (f"  {events or '?'}: {cause}" for cause, events in gaps.causes)
    for findings, state in ((found.explained, "reported as lost"), (found.waiting, "possibly still on the way")):
        for finding in findings[:MAX_PRINTED]:
            yield f"{_of(finding)}: {counted(finding.numbers, 'event')} {state} ({_ranges(finding)})"
    yield from (f"the archive begins after run {decoded(run)}" for run in found.before[:MAX_PRINTED])


def _defect(defect: ArchiveDefect) -> str:
    where = f"{defect.path}: offset {defect.offset}" if defect.kind in _WITH_OFFSET else defect.path
    run, type_ = decoded(defect.run), decoded(defect.type)
    return f"{where}: {_DEFECTS[defect.kind].format(octets=defect.octets, run=run, type=type_, number=defect.number)}"


def _of(finding: CompletenessFinding) -> str:
    run = f"run {decoded(finding.run)}"
    return f"{run}, type {decoded(finding.type)}" if finding.type else run


def _ranges(finding: CompletenessFinding) -> str:
    named = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in finding.ranges)
    return f"{named} and {counted(finding.unnamed, 'more range')}" if finding.unnamed else named


def _time(microseconds: int) -> str:
    return format_timestamp(microseconds).decode()


# --- For programs ---


def _print_json(check: ArchiveCheck) -> bool:
    """Print what was found as one object; returns whether the archive is whole."""
    originators: list[dict[str, Any]] = []
    for originator in check.originators():
        found = originator.judgement
        fields = {
            "name": originator.name,
            "whole": originator.whole,
            "days": originator.days,
            "octets": originator.octets,
            "messages": found.messages,
            "numbered": found.numbered,
            "unstructured": found.unstructured,
            "unjudged": found.unjudged,
            "runs": found.runs,
            "heard": None if found.heard is None else _time(found.heard),
            "backlog": found.backlog,
            "before": list(map(decoded, found.before)),
            "missing": found.missing,
            "damaged": originator.damaged,
            "doubles": originator.doubles,
            "malformed": originator.malformed,
            "being_written": originator.being_written,
            "places": list(map(_defect_object, originator.places)),
            "faults": list(map(_finding_object, found.faults)),
            "told_as_lost": list(map(_finding_object, found.explained)),
            "waiting": list(map(_finding_object, found.waiting)),
            "gaps": {**found.gaps._asdict(), "causes": dict(found.gaps.causes)},
        }
        originators.append(fields)
    whole = not check.places and all(each["whole"] for each in originators)
    print_json(
        SCHEMA,
        archive=check.folder,
        pid=check.pid,
        indexed=check.indexed,
        first_day=check.first_day,
        whole=whole,
        originators=originators,
        places=list(map(_defect_object, check.places)),
        warnings=[notice._asdict() for notice in check.warnings],
        more_warnings=check.unwarned,
    )
    return whole


def _finding_object(finding: CompletenessFinding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "run": decoded(finding.run),
        "type": decoded(finding.type),
        "numbers": finding.numbers,
        "ranges": finding.ranges,
        "more_ranges": finding.unnamed,
    }


def _defect_object(defect: ArchiveDefect) -> dict[str, Any]:
    return {**defect._asdict(), "run": decoded(defect.run), "type": decoded(defect.type)}
