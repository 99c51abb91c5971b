"""`relay archive verify` and `relay archive export`.

`verify`: for people, faults go to stderr; stdout gets the holdings of each originator, and one sentence about the whole
archive. `--json` prints {"schema": "relay.archive/2", "archive", "pid" (null: no process writes), "journal" (whether
there is one), "verifiable" (false: neither a journal nor a package's list says what there was), "first_day" ("": all
days), "whole", "originators": [ORIGINATOR…], "places": [PLACE…], "notices": [NOTICE…], "more_notices"}
    ORIGINATOR: {"name" (its folder), "whole", "days": [FIRST, LAST] (empty: no log), "octets" (uncompressed),
        "extents" (that agree with the chain), "messages", "numbered", "unassessed", "runs", "last_report" (RFC 3339:
        relay's last own event; null: none), "backlog": {SERVER: BLOCKS} (then), "reporter" (whose reports these and
        "gaps" are: "verified", "contested", "unverified", "": none), "ignored_reports" (unverified ones beside them),
        "before": [RUN…] (before the archive's beginning), "missing" (numbers), "being_written" (octets), "defects":
        {KIND: PLACES}, "places": [PLACE…] (the first of them), "faults": [FINDING…], "reported_lost": [FINDING…],
        "waiting": [FINDING…], "claims": [FINDING…], "gaps": GAPS, "notices": [NOTICE…]}
    FINDING: {"kind", "run", "type" ("": all), "numbers", "ranges": [[FIRST, LAST]…], "more_ranges"}
    PLACE: {"kind", "path", "first", "last" (lines from 1; 0: the whole file), "octets", "run", "type", "number",
        "cause"}
    NOTICE: {"kind", "path", "octets", "times", "detail"}
    GAPS: {"reported", "events", "unknown", "unnamed", "explained", "forgotten", "causes": {CAUSE: EVENTS}}
`relay.archive.completeness.number_trail` and `relay.archive.verification.findings` define the kinds. The exit code is
65 when something is wrong, 0 when the archive is whole. Version 2 reads archives of format 2.

`export --json` prints {"schema": "relay.exported/1", "output", "originators": [NAME…], "files", "octets"};
`relay.archive.export` describes the package.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import click

from relay.archive.completeness.assessment import AssessmentScope, Completeness, CompletenessFinding
from relay.archive.export import Export, ExportScope
from relay.archive.layout import day_of
from relay.archive.verification.archive_check import ArchiveCheck
from relay.archive.verification.findings import ArchiveDefect, ArchiveNotice, CheckedOriginator
from relay.cli.event_filters import type_option
from relay.cli.options import options, repeatable_option, usual_options
from relay.cli.output import print_json, print_line, report
from relay.cli.parameter_types import Glob, beginning_in_utc, glob
from relay.cli.state import archive_folder, bound_names
from relay.syslog.rfc5424 import format_timestamp
from relay.system.clock import wall_clock
from relay.system.disk import Disk
from relay.values.event import EventType
from relay.values.text import counted, decoded

SCHEMA: Final = "relay.archive/2"
EXPORT_SCHEMA: Final = "relay.exported/1"
NOT_WHOLE: Final = 65
MAX_PRINTED: Final = 20
"""How many findings of a kind are printed for each originator."""

_DEFECTS: Final = {
    "altered": "{lines}: not as they were written; {cause}",
    "ledger altered": "{lines}: not as it was written: {cause}",
    "misplaced": "{lines}: {cause}; the day was copied or renamed",
    "not a ledger line": "{lines}: not a line of a ledger: {cause}",
    "unrecorded": "{octets} octets at its end are in no ledger",
    "ledger missing": "the ledger is missing",
    "log missing": "the log of this day is missing, with {octets} octets",
    "log cut": "cut: {octets} octets are missing that the ledger describes",
    "cut": "cut: {octets} octets are missing that the journal knows",
    "gone": "missing, with {octets} octets that the journal knows",
    "changed": "another program changed this day's files while relay wrote them or was stopped; {cause}",
    "added": "{octets} octets at its end were added by another program after relay had stopped",
    "duplicate": "{lines}: run {run}, type {type}: number {number} is there twice",
    "differs": "{lines}: run {run}, type {type}: number {number} is there twice, with other octets",
    "malformed": "run {run}, type {type}: number {number} is not a message as relay writes it",
    "index": "the journal is damaged: its entries about some files and numbers are lost",
    "unreadable": "cannot be read: {cause}",
    "unpacked": "missing, with {octets} octets, from what relay-export.json lists",
    "resized": "it has not the {octets} octets that relay-export.json lists",
}
_FINDINGS: Final = {
    "missing": "{events} missing{ranges}; no gap accounts for {them}",
    "named lost": "{events} missing{ranges}; only an unverified or contested gap names {them}, which proves nothing",
    "substituted": "{events} here only from other senders than this run's{ranges}",
    "scattered": "{events} missing among these{ranges}, too many to compare with gaps",
    "gone": "{events} missing{ranges}; the journal knows that the archive had {them}",
    "unfinished": "{events} incomplete, because parts of {them} are missing{ranges}",
    "run missing": "there is nothing at all of this run, which came between two others",
}
_CLAIMS: Final = {
    "claimed": "{events} not here{ranges}, as only unverified or contested reports say",
    "unconfirmed": "{events} not here{ranges}, below an unverified or contested number, but no report names {them}",
    "scattered": "{events} not here among these{ranges}, whose sender is not verified",
}
_ABSENT_RUN: Final = "only unverified or contested reports name this run, of which nothing is here"
_NOTICES: Final = {
    "foreign": "not made by relay, and not read",
    "open": "users other than its owner can write to it",
    "copy": "a copy of what relay cut off or found damaged, {octets} octets",
    "uncommitted": "{octets} octets at its end were not committed; relay cuts them off (after a copy) when it starts",
    "compressed": "compressed by another program than relay",
    "begins anew": "the chain begins anew here: this ledger continues none of the older ones",
    "unclosed": "it has no closing, and is not open by the journal: relay gave the day up because another program "
    "changed it or the journal was lost, or the end of the ledger was cut off",
    "undescribed": "{octets} octets at its end are in no line of the ledger; there is no journal to say whether relay "
    "was writing them",
    "package begins": "the package begins here: the days up to {detail} were not chosen",
    "begins in the middle": "the chain begins in the middle: it continues {detail}, which is not here",
    "removed": "removed by retention {detail}, {octets} octets",
    "was changed": "another program changed this day's files; relay noticed at {detail}",
    "uncompared": "{repeated} could not be compared: the same message twice, or another one with its number; "
    "`relay events --full` shows them, with the mark `uncompared`",
    "forgeable": "{repeated} came with other octets from a sender who is not verified, or not the first one's: one of "
    "each two may be forged; both are kept, and `relay events --full` shows from whom they came",
    "disputed": "messages under a name that is bound to another sender; their numbers are not assessed",
    "aside": "stored here because the originator's own folder could not be written; their numbers are assessed there",
}
_DIFFERENCE: Final = (
    "a number that is there twice, with other octets: two messages claim to be the same event. Either the sender's "
    "state was restored from a copy, and it has numbered anew since, or one of them is forged. Both are kept. "
    "`relay events --full` shows from whom and when each came: choose them with --originator and "
    "--grep 'relaySeq=\"NUMBER\"'"
)
_NO_JOURNAL: Final = (
    "there is no journal ({folder}/.relay/journal), so nothing says which files and messages there were: what was "
    "removed together with its ledger lines shows by its numbers alone. Check the archive where relay wrote it, or "
    "hand on a part with `relay archive export`, which has a list of its files"
)
_UNPROVEN: Final = (
    "relay's own reports prove something only when their sender is verified. Bind the originator's name to what proves "
    "its sender with [[receiver.originator]], and check again with -c and that configuration. Where sshd passes "
    "everything on, that can be `networks` or `listeners`: then every user of that machine counts as the sender"
)
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
    """Check every octet, number, gap and file; exit with 65 when something is missing, altered or duplicate.

    DIR is an archive; by default the configuration's, whose own default is /var/log/relay. It can also be a part that
    `relay archive export` made. A message that `relay receive` is writing meanwhile is not a fault.

    Each line of a ledger has a hash over the line before it and over the lines of the log that it describes. So a
    changed, added or removed line is reported by file and line, and so is a missing file. What retention removed is
    not a fault.

    In each run, relay numbers the events of each type from 1 and without a hole. Missing events are reported by run,
    type and numbers, unless a gap event accounts for them. Reports of relay's own count only from a verified sender: an
    unverified gap accounts for nothing, and what only unverified reports or numbers claim is printed and is not a
    fault. Names that the configuration binds ([[receiver.originator]]) count from their senders alone; with DIR it is
    read only if -c names it. A server that gets only some `types` misses all others: name
    its types with --type. A server that chooses by `facilities` or `severity` gets numbers with holes, which look as if
    events were missing: the messages do not show that it does.

    It cannot detect duplicates of messages without a number (those of other programs), and missing events after the
    last one; therefore it prints when relay last reported. It trusts the ledgers' hashes: somebody who rewrites a
    ledger and all that follow it is found only by comparing with an older copy of them.
    """
    bound = bound_names(context, folder)
    folder = archive_folder(context, folder)
    options(context).paths["--archive"] = folder  # commands in what is printed name it too
    labels = frozenset(kind.label.encode() for kind in types)
    scope = AssessmentScope(labels, frozenset(servers), begun=since is not None)
    check = ArchiveCheck(Disk(), folder, scope, "" if since is None else day_of(since), bound)
    whole = _print_json(check) if as_json else _print_text(check)
    context.exit(0 if whole else NOT_WHOLE)


@click.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(readable=False))
@click.option(
    "--from",
    "since",
    metavar="TIME",
    type=beginning_in_utc,
    help="The first day of receipt: 2026-11-30, yesterday, -30d; in UTC without a zone.  [default: the oldest]",
)
@click.option(
    "--to",
    "until",
    metavar="TIME",
    type=beginning_in_utc,
    help="The last day of receipt, in the same forms.  [default: the newest]",
)
@repeatable_option(
    "--originator",
    "originators",
    "GLOB",
    "Only these originators, by the names of their folders: fw1, 'edge*' (default: all)",
    type=glob,
)
@click.option(
    "--output",
    metavar="FILE",
    required=True,
    type=click.Path(readable=False),
    help="Write this file, which must not exist; compressed with zstd if its name ends in .zst.",
)
@usual_options
def export(  # noqa: PLR0913  one parameter an option
    context: click.Context,
    *,
    folder: str | None,
    since: int | None,
    until: int | None,
    originators: tuple[Glob, ...],
    output: str,
    as_json: bool,
) -> None:
    """Write whole days of an archive, with their ledgers, into one tar file for an auditor or another machine.

    The package holds each day's log and ledger as they lie in the archive, the file relay-export.json with the hash of
    each, and SHA256SUMS. Its receiver unpacks it with tar, and checks it with `sha256sum --check SHA256SUMS` and with
    `relay archive verify relay-export`. An open day is exported up to its last committed message.
    """
    folder = archive_folder(context, folder)
    matches = [each.matches for each in originators]
    scope = ExportScope(
        "" if since is None else day_of(since),
        "" if until is None else day_of(until),
        (lambda name: any(match(name) for match in matches)) if matches else None,
    )
    package = Export(Disk(), folder, scope)
    package.write(os.path.abspath(output), wall_clock())
    if as_json:
        print_json(
            EXPORT_SCHEMA,
            output=output,
            originators=package.originators,
            files=len(package.files),
            octets=package.octets,
        )
    else:
        held = f"{counted(len(package.files), 'file')} of {counted(len(package.originators), 'originator')}"
        print_line(f"{output}: {held}, {package.octets} octets")


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
            messages=originator.completeness.messages,
            numbered=originator.completeness.numbered,
            missing=originator.completeness.missing,
            unproven=sum(finding.numbers for finding in originator.completeness.faults if finding.kind == "named lost"),
            claims=len(originator.completeness.claims),
            defects=originator.defects,
            differing=originator.counts.get("differs", 0),
            duplicates=originator.counts.get("duplicate", 0) + originator.counts.get("differs", 0),
            files=sum(originator.counts.get(kind, 0) for kind in ("log missing", "ledger missing")),
        )
    for defect in check.places:
        report(_defect(defect))
    for notice in check.notices:
        print_line(f"  {_notice(notice)}")
    if check.more_notices:
        print_line(f"  … and {check.more_notices} more of these")
    _print_remedies(sums)
    gone = sum(defect.kind in {"gone", "unpacked"} for defect in check.places)
    verdict = "whole"
    if check.places or not whole:
        damaged = sums["defects"] - sums["duplicates"] - sums["files"] + len(check.places) - gone
        counts = (
            (sums["missing"], "event", " missing"),
            (gone + sums["files"], "file", " missing"),
            (damaged, "place", " damaged"),
            (sums["duplicates"], "duplicate", ""),
        )
        found = [f"{counted(number, noun)}{ending}" for number, noun, ending in counts if number]
        verdict = ", ".join(("not whole", *found))
    elif not check.verifiable:
        verdict = "not verifiable"
    held = f"{counted(sums['messages'], 'message')} of {counted(sums['originators'], 'originator')}"
    print_line(f"{check.folder}: {verdict}; {held}, {sums['numbered']} of them numbered")
    if check.package is not None:
        made = f"made on {check.package.made} from {check.package.archive}"
        print_line(f"an exported package, {made}; it has no journal by design, and days and originators were chosen")
    elif not check.has_journal:
        report(_NO_JOURNAL.format(folder=check.folder))
    return whole and not check.places and check.verifiable


def _print_remedies(sums: Counter[str]) -> None:
    if sums["missing"]:
        report(_INNOCENT_CAUSES)
    if sums["unproven"]:
        report(_UNPROVEN)
    elif sums["claims"]:
        print_line(f"  {_UNPROVEN}")
    if sums["differing"]:
        report(_DIFFERENCE)


def _print_originator(originator: CheckedOriginator) -> None:
    name, found = originator.name, originator.completeness
    # Missing events first, because only some of the lines are printed.
    faults = [f"{name}: {_of(finding)}: {_in_words(_FINDINGS[finding.kind], finding)}" for finding in found.faults]
    if found.unassessed:
        faults.append(
            f"{name}: {counted(found.unassessed, 'message')} not assessed: too many runs, or too many holes before"
        )
    faults += map(_defect, originator.places)
    for fault in faults[:MAX_PRINTED]:
        report(fault)
    more = max(len(faults) - MAX_PRINTED, 0) + originator.defects - len(originator.places)
    if more:
        report(f"{name}: … and {counted(more, 'more fault')}")
    days = f", received {' to '.join(dict.fromkeys(originator.days))}" if originator.days else ""
    numbered = f"{found.numbered} numbered in {counted(found.runs, 'run')}" if found.numbered else ""
    unnumbered = f"{found.messages - found.numbered} without a number" if found.messages > found.numbered else ""
    parts = ", ".join(filter(None, (numbered, unnumbered)))
    verdict = "whole" if originator.whole else "NOT WHOLE"
    print_line(f"{name}: {verdict}; {counted(found.messages, 'message')}{f' ({parts})' if parts else ''}{days}")
    for line in _details(found):
        print_line(f"  {line}")
    removed = [notice for notice in originator.notices if notice.kind == "removed"]
    if len(removed) > 1:
        days = f"{removed[0].path.rpartition('/')[2]} to {removed[-1].path.rpartition('/')[2]}"
        print_line(f"  {counted(len(removed), 'day')} ({days}) removed by retention")
    for notice in originator.notices:
        if len(removed) <= 1 or notice.kind != "removed":
            print_line(f"  {_notice(notice)}")
    if originator.being_written:
        print_line("  messages are being written at the end")


def _in_words(sentence: str, finding: CompletenessFinding) -> str:
    one = finding.numbers == 1
    events = f"{counted(finding.numbers, 'event')} {'is' if one else 'are'}"
    return sentence.format(events=events, ranges=f" ({_ranges(finding)})", them="it" if one else "them")


def _details(found: Completeness) -> Iterator[str]:
    word = f" ({found.reporter})" if found.reporter in {"unverified", "contested"} else ""
    if found.last_report is not None:
        backlog = [f"{counted(blocks, 'block')} for {server}" for server, blocks in found.backlog.items() if blocks]
        waited = f"; then {', '.join(backlog)} waited" if backlog else ""
        yield f"relay there last reported at {_time(found.last_report)}{word}{waited}"
    if found.ignored_reports:
        yield f"{counted(found.ignored_reports, 'report')} of unverified senders under this name did not count"
    gaps = found.gaps
    if gaps.reported:
        unnamed = f" ({gaps.unnamed} of them without their numbers)" if gaps.unnamed else ""
        unknown = f", and {counted(gaps.unknown, 'loss', 'losses')} of unknown size" if gaps.unknown else ""
        lost = f"{counted(gaps.events, 'event')} lost{unnamed}{unknown}"
        yield f"reported by relay itself{word}: {lost}, in {counted(gaps.reported, 'gap')}"
        yield from (f"  {events or '?'}: {cause}" for cause, events in gaps.causes)
    for findings, state in ((found.explained, "reported as lost"), (found.waiting, "possibly still on the way")):
        for finding in findings[:MAX_PRINTED]:
            yield f"{_of(finding)}: {counted(finding.numbers, 'event')} {state} ({_ranges(finding)})"
    for finding in found.claims[:MAX_PRINTED]:
        sentence = _CLAIMS[finding.kind] if finding.type else _ABSENT_RUN
        yield f"{_of(finding)}: {_in_words(sentence, finding)}"
    yield from (f"the archive begins after run {decoded(run)}" for run in found.before[:MAX_PRINTED])


def _defect(defect: ArchiveDefect) -> str:
    lines = f"line {defect.first}" if defect.first == defect.last else f"lines {defect.first} to {defect.last}"
    words = {"lines": lines, "octets": defect.octets, "number": defect.number, "cause": defect.cause}
    text = _DEFECTS[defect.kind].format(**words, run=decoded(defect.run), type=decoded(defect.type))
    cause = f"; {defect.cause}" if defect.cause and defect.kind in {"log missing", "ledger missing"} else ""
    return f"{defect.path}: {text}{cause}"


def _notice(notice: ArchiveNotice) -> str:
    repeated = counted(notice.times, "repeated number")
    text = _NOTICES[notice.kind].format(octets=notice.octets, repeated=repeated, detail=notice.detail)
    return f"{notice.path}: {text}"


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
        found = originator.completeness
        fields = {
            "name": originator.name,
            "whole": originator.whole,
            "days": originator.days,
            "octets": originator.octets,
            "extents": originator.extents,
            "messages": found.messages,
            "numbered": found.numbered,
            "unassessed": found.unassessed,
            "runs": found.runs,
            "last_report": None if found.last_report is None else _time(found.last_report),
            "backlog": found.backlog,
            "reporter": found.reporter,
            "ignored_reports": found.ignored_reports,
            "before": list(map(decoded, found.before)),
            "missing": found.missing,
            "being_written": originator.being_written,
            "defects": originator.counts,
            "places": list(map(_defect_object, originator.places)),
            "faults": list(map(_finding_object, found.faults)),
            "reported_lost": list(map(_finding_object, found.explained)),
            "waiting": list(map(_finding_object, found.waiting)),
            "claims": list(map(_finding_object, found.claims)),
            "gaps": {**found.gaps._asdict(), "causes": dict(found.gaps.causes)},
            "notices": [notice._asdict() for notice in originator.notices],
        }
        originators.append(fields)
    whole = not check.places and check.verifiable and all(each["whole"] for each in originators)
    print_json(
        SCHEMA,
        archive=check.folder,
        pid=check.pid,
        journal=check.has_journal,
        verifiable=check.verifiable,
        first_day=check.first_day,
        whole=whole,
        originators=originators,
        places=list(map(_defect_object, check.places)),
        notices=[notice._asdict() for notice in check.notices],
        more_notices=check.more_notices,
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
