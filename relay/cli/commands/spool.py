"""`relay spool`: what a state directory's spools hold, whether they are whole, and their messages.

`show --json` prints {"schema": "relay.spool-show/1", "state_directory", "pid" (null: no process writes),
    "spools": [SPOOL…]}
    SPOOL: {"name", "segments": [SEGMENT…], "next_block", "cursors": {DESTINATION: BLOCK}, "damage"}
    SEGMENT: the fields of `relay.spool.inspection.survey.SegmentSurvey`; times in microseconds since the epoch, 0
        without messages; "damage" names lost blocks, and in a SPOOL files that are not segments
`verify --json` prints {"schema": "relay.spool-verify/1", "state_directory", "pid", "whole", "spools": [VERIFIED…]}
    VERIFIED: {"name", …the fields of `relay.spool.inspection.verify.Verified`}; "head" is the end of the hash chain, in
    hexadecimal. The exit code is 0 when the spools are whole, else 65, and the first breaks are named. A torn tail is
    reported apart, because nothing of it was ever accepted. While relay runs it is the block that is being written;
    otherwise it counts as damage, because a clean stop leaves none.
`cat` prints a spool's messages, one a line and with control characters escaped (--raw: as they are, an LF after each;
    --octet-counted: `LEN SP MSG` without anything between, RFC 6587 section 3.4.1, for programs: every octet is exact).
    With --json one object a line: {"schema": "relay.spool-cat/1", "spool", "block", "type", "number", "message",
    "message_base64"}, the last two as `relay events` has them. A received message has also "from" (the peer), "by" (its
    verified identity, or null), "via" (listener and protocol) and "marks" (such as "cut"), as in the archive's ledger.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from relay.cli.event_filters import type_option
from relay.cli.options import config_option, usual_options
from relay.cli.output import message_as_json, print_json, print_line, report, utc
from relay.cli.parameter_types import WholeNumber
from relay.cli.state import state_directory, state_option
from relay.errors import DataError
from relay.program.history.spool_history import require_state
from relay.spool.block import Block, Header, Span
from relay.spool.inspection import survey as spool_survey
from relay.spool.inspection import verify as spool_verify
from relay.spool.inspection.browse import blocks_text, walk_from
from relay.spool.inspection.overview import cursors
from relay.spool.inspection.survey import SpoolSurvey
from relay.spool.inspection.verify import Verified
from relay.system.disk import Disk
from relay.values.event import EventType
from relay.values.provenance import ReceiptMark
from relay.values.size import rounded_size
from relay.values.text import counted, decoded, escaped, printable_json

SPOOLS: Final = ("retained", "transient")
DAMAGED: Final = 65


# --- show ---


@click.command()
@state_option
@usual_options
def show(context: click.Context, *, state: str | None, as_json: bool) -> None:
    """Show each segment, and how far each destination's cursor has come."""
    disk, folder = _open(context, state)
    pid, reached = disk.lock_owner(f"{folder}/lock"), _cursors(disk, folder)
    surveys = {name: spool_survey.survey(disk, f"{folder}/spool/{name}") for name in SPOOLS}
    if as_json:
        spools = [
            {
                "name": name,
                **found._asdict(),
                "segments": [segment._asdict() for segment in found.segments],
                "cursors": reached[name],
            }
            for name, found in surveys.items()
        ]
        print_json("relay.spool-show/1", state_directory=folder, pid=pid, spools=spools)
        return
    print_line(f"{folder}: {'not running' if pid is None else f'running, pid {pid}'}")
    for name, found in surveys.items():
        for line in _survey_lines(name, found, reached[name]):
            print_line(line)


def _survey_lines(name: str, found: SpoolSurvey, reached: Mapping[str, int]) -> Iterator[str]:
    messages = sum(segment.messages for segment in found.segments)
    octets = sum(segment.octets for segment in found.segments)
    yield f"{name}: {counted(len(found.segments), 'segment')}, {counted(messages, 'message')}, {rounded_size(octets)}"
    for segment in found.segments:
        types = ", ".join(f"{label} {number}" for label, number in segment.by_type.items())
        held = counted(segment.messages, "message") + (f" ({types})" if types else "")
        times = f", {utc(segment.earliest)} to {utc(segment.latest)}" if segment.latest else ""
        if segment.last < segment.first:
            yield f"  block {segment.first}: none yet"
        else:
            yield f"  {blocks_text(segment.first, segment.last)}: {held}, {rounded_size(segment.octets)}{times}"
        yield from (f"    DAMAGED {text}" for text in segment.damage)
    yield from (f"  DAMAGED {text}" for text in found.damage)
    for destination, number in sorted(reached.items()):
        behind = found.next_block - number
        position = "the end" if behind <= 0 else f"block {number}, {counted(behind, 'block')} before the end"
        yield f"  cursor of {destination}: {position}"


# --- verify ---


@click.command()
@state_option
@usual_options
def verify(context: click.Context, *, state: str | None, as_json: bool) -> None:
    """Check every block and the hash chain, name the first breaks, and exit with 65 if there are any."""
    disk, folder = _open(context, state)
    pid = disk.lock_owner(f"{folder}/lock")
    # The cursors first: while relay runs they only rise, and so does the spool's end.
    reached = _cursors(disk, folder)
    found = {name: spool_verify.verify(disk, f"{folder}/spool/{name}", reached[name]) for name in SPOOLS}
    damage = [text for each in found.values() for text in _damage(each, running=pid is not None)]
    if as_json:
        spools = [
            {
                "name": name,
                **each._asdict(),
                "head": each.head.hex(),
                "breaks": [broken._asdict() for broken in each.breaks],
                "torn": each.torn and each.torn._asdict(),
            }
            for name, each in found.items()
        ]
        print_json("relay.spool-verify/1", state_directory=folder, pid=pid, whole=not damage, spools=spools)
    else:
        for text in damage:
            report(text)
        blocks, messages, segments, lost = (
            sum(getattr(each, field) for each in found.values()) for field in ("blocks", "messages", "segments", "lost")
        )
        verdict = f"damaged, {counted(lost, 'block')} lost" if damage else "whole"
        held = f"{counted(blocks, 'good block')} with {counted(messages, 'message')} in {counted(segments, 'segment')}"
        print_line(f"{folder}: {verdict}; {held}, checksums and hash chain checked")
        if pid is not None and any(each.torn for each in found.values()):
            print_line("a block is being written at the end")
    context.exit(DAMAGED if damage else 0)


def _damage(found: Verified, *, running: bool) -> Iterator[str]:
    for broken in found.breaks:
        yield f"{broken.path}: offset {broken.offset}, block {broken.block}: {broken.cause}"
    if found.broken > len(found.breaks):
        yield f"… and {counted(found.broken - len(found.breaks), 'more break')}"
    if found.torn is not None and not running:
        path, offset, number, octets = found.torn
        yield (
            f"{path}: offset {offset}, block {number}: a torn tail of {octets} octets; if a crash left it, none of it "
            "was accepted, and relay cuts it off (after a copy) when it starts"
        )


# --- cat ---


@click.command()
@state_option
@click.option(
    "--spool", "name", type=click.Choice(SPOOLS), default=SPOOLS[0], show_default=True, help="Read this spool."
)
@click.option(
    "--from",
    "start",
    type=WholeNumber(min=1),
    metavar="BLOCK",
    default=1,
    show_default=True,
    help="Begin with this block.",
)
@type_option("Only messages of this type")
@click.option("--raw", "form", flag_value="raw", help="Print messages as they are, a line feed after each.")
@click.option(
    "--octet-counted", "form", flag_value="octet-counted", help="Print messages as they are, each with its length."
)
@click.option("--json", "form", flag_value="json", help="Print one JSON object a line, for programs.")
@config_option
@click.pass_context
def cat(
    context: click.Context,
    *,
    state: str | None,
    name: str,
    start: int,
    types: tuple[EventType, ...],
    form: str | None,
) -> None:
    """Print the messages of a spool, in order, up to its present end."""
    if form in {"raw", "octet-counted"} and sys.stdout.isatty():
        remedy = "redirect it, or leave the option out"
        raise click.UsageError(
            f"--{form} is not for a terminal, which would obey control characters; {remedy}", context
        )
    disk, folder = _open(context, state)
    unreadable = 0

    def is_chosen(header: Header) -> bool:
        return header.number >= start and (not types or any(span.type in types for span in header.spans))

    with walk_from(disk, f"{folder}/spool/{name}", start) as walk:
        while (found := walk.read(is_chosen)) is not None:
            if isinstance(found, Block):
                for span, messages in found.by_span():
                    if types and span.type not in types:
                        continue
                    for number, message in enumerate(messages, span.first):
                        fields = {"spool": name, "block": found.header.number, "number": number}
                        sys.stdout.buffer.write(_formatted(message, form, fields | _origin(span)))
            elif found.last >= start:
                unreadable += 1
                report(f"{found.path}: offset {found.offset}: {found.cause}")
    sys.stdout.buffer.flush()
    if unreadable:
        cause = f"{counted(unreadable, 'place')} could not be read; the messages there are left out"
        raise DataError(folder, cause, "see `relay spool verify`")


def _origin(span: Span) -> dict[str, Any]:
    """The type of a span's messages, and who sent them."""
    fields: dict[str, Any] = {"type": span.type.label}
    if span.provenance is not None:
        peer, identity, _, _ = span.provenance
        marks = ReceiptMark(span.marks).labels
        fields |= {"from": peer, "by": identity or None, "via": span.provenance.via, "marks": marks}
    return fields


def _formatted(message: bytes, form: str | None, fields: Mapping[str, Any]) -> bytes:
    match form:
        case "raw":
            return message + b"\n"
        case "octet-counted":
            return b"%d %b" % (len(message), message)
        case "json":
            whole = {"schema": "relay.spool-cat/1", **fields, **message_as_json(message)}
            return printable_json(json.dumps(whole, ensure_ascii=False).encode()) + b"\n"
        case _:
            return escaped(decoded(message)).encode() + b"\n"


# --- All three ---


def _open(context: click.Context, state: str | None) -> tuple[Disk, str]:
    """The disk and the state directory; NoInputError when relay has not kept state there."""
    disk, folder = Disk(), state_directory(context, state)
    require_state(disk, folder)
    return disk, folder


def _cursors(disk: Disk, folder: str) -> dict[str, dict[str, int]]:
    """Spool → destination → the block that it gets next."""
    found = cursors(disk, folder)
    return {name: {destination: getattr(cursor, name) for destination, cursor in found.items()} for name in SPOOLS}
