"""`relay spool`: what a state directory's spools hold, whether they are whole, and their messages.

`show --json` prints {"schema": "relay.spool-show/1", "state_directory", "pid" (null: nobody writes),
    "spools": [SPOOL…]}
    SPOOL: {"name", "segments": [SEGMENT…], "next_block", "cursors": {DESTINATION: BLOCK}}
    SEGMENT: the fields of `relay.spool.inspection.survey.Segment`; times in microseconds since the epoch, 0 without
        messages; lost blocks and files that are no segment stand in "damage"
`verify --json` prints {"schema": "relay.spool-verify/1", "state_directory", "pid", "whole", "spools": [VERIFIED…]}
    VERIFIED: {"name", …the fields of `relay.spool.inspection.verify.Verified`}; head is the hash chain's end, in
    hexadecimal It ends with 0 and one sentence when the spools are whole, with 65 and the place of the first break when
    not. A torn tail is told apart: nothing of it was ever accepted. While relay runs it is the block that is being
    written; when none runs it counts as damage, since a clean stop leaves none.
`cat` prints a spool's messages, one a line and with control characters escaped (--raw: as they are, an LF after each;
    --octet-counted: `LEN SP MSG` without anything between, RFC 6587 section 3.4.1, for programs: every octet is exact).
    With --json one object a line: {"schema": "relay.spool-cat/1", "spool", "block", "type", "number", "message",
    "message_base64"}, the last two as `relay events` has them.
"""

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

import click

from relay.cli.commands.events import message_fields
from relay.cli.event_filters import complete_type, event_types
from relay.cli.group import Group
from relay.cli.number import WholeNumber
from relay.cli.options import config_option
from relay.cli.state import state_directory, state_option
from relay.values.size import rounded_size
from relay.values.text import decoded, escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from relay.errors import DataError
    from relay.spool.block import Header
    from relay.spool.inspection.survey import SegmentSurvey, SpoolSurvey
    from relay.spool.inspection.verify import Verified
    from relay.system.disk import Disk
    from relay.values.event import EventType

SPOOLS: Final = ("retained", "transient")
DAMAGED: Final = 65
_MICROSECONDS: Final = 1_000_000

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


@click.group(cls=Group)
@config_option
def spool() -> None:
    """Look into the spool: its segments, its wholeness, its messages. Nothing is changed."""


# --- show ---


@spool.command()
@state_option
@_json_option
@config_option
@click.pass_context
def show(context: click.Context, *, state: str | None, as_json: bool) -> None:
    """Show each segment, and where each destination's cursor stands."""
    from relay.spool.inspection.survey import survey

    disk, folder = _opened(context, state)
    cursors = _cursors(disk, folder)
    surveys = [(name, survey(disk, f"{folder}/spool/{name}"), cursors[name]) for name in SPOOLS]
    if as_json:
        _print_json("relay.spool-show/1", disk, folder, spools=[_survey_object(*each) for each in surveys])
        return
    pid = _pid(disk, folder)
    click.echo(f"{folder}: {'not running' if pid is None else f'running, pid {pid}'}")
    for each in surveys:
        click.echo("\n".join(_survey_lines(*each)))


def _survey_object(name: str, found: "SpoolSurvey", cursors: "Mapping[str, int]") -> dict[str, object]:
    return {"name": name, **found._asdict(), "segments": [s._asdict() for s in found.segments], "cursors": cursors}


def _survey_lines(name: str, found: "SpoolSurvey", cursors: "Mapping[str, int]") -> "Iterator[str]":
    messages = sum(segment.messages for segment in found.segments)
    octets = sum(segment.octets for segment in found.segments)
    yield f"{name}: {_count(len(found.segments), 'segment')}, {_count(messages, 'message')}, {rounded_size(octets)}"
    for segment in found.segments:
        yield f"  {_segment(segment)}"
        yield from (f"    DAMAGED {escaped(text)}" for text in segment.damage)
    yield from (f"  DAMAGED {escaped(text)}" for text in found.damage)
    for destination, number in sorted(cursors.items()):
        behind = found.next_block - number
        place = "the end" if behind <= 0 else f"block {number}, {_count(behind, 'block')} before the end"
        yield f"  cursor of {escaped(destination)}: {place}"


def _segment(segment: "SegmentSurvey") -> str:
    if segment.last < segment.first:
        return f"block {segment.first}: none yet"
    from relay.spool.inspection.browse import blocks_text

    span = f", {_time(segment.earliest)} to {_time(segment.latest)}" if segment.latest else ""
    types = ", ".join(f"{label} {count}" for label, count in segment.by_type.items())
    return (
        f"{blocks_text(segment.first, segment.last)}: {_count(segment.messages, 'message')}"
        f"{f' ({types})' if types else ''}, {rounded_size(segment.octets)}{span}"
    )


# --- verify ---


@spool.command()
@state_option
@_json_option
@config_option
@click.pass_context
def verify(context: click.Context, *, state: str | None, as_json: bool) -> None:
    """Check every block and the hash chain; 65 and the first break's place when something is wrong."""
    from relay.spool.inspection.verify import verify as verified

    disk, folder = _opened(context, state)
    pid = _pid(disk, folder)
    # The cursors first: while relay runs they only rise, and so does the spool's end.
    cursors = _cursors(disk, folder)
    found = {name: verified(disk, f"{folder}/spool/{name}", cursors[name]) for name in SPOOLS}
    damage = [text for each in found.values() for text in _damage(each, running=pid is not None)]
    if as_json:
        spools = [_verified_object(name, each) for name, each in found.items()]
        _print_json("relay.spool-verify/1", disk, folder, whole=not damage, spools=spools)
    else:
        _tell_verified(folder, found, damage, running=pid is not None)
    context.exit(DAMAGED if damage else 0)


def _damage(found: "Verified", *, running: bool) -> "Iterator[str]":
    for broken in found.breaks:
        yield f"{broken.path}: offset {broken.offset}, block {broken.block}: {broken.cause}"
    if found.broken > len(found.breaks):
        yield f"… and {_count(found.broken - len(found.breaks), 'more break')}"
    if found.torn is not None and not running:
        path, offset, number, octets = found.torn
        yield (
            f"{path}: offset {offset}, block {number}: a torn tail of {octets} octets; if a crash left it, none of it "
            "was accepted, and relay cuts it off (after a copy) when it starts"
        )


def _tell_verified(folder: str, found: "Mapping[str, Verified]", damage: list[str], *, running: bool) -> None:
    for text in damage:
        click.echo(f"relay: {escaped(text)}", err=True)
    blocks, messages, segments, lost = (
        sum(getattr(each, field) for each in found.values()) for field in ("blocks", "messages", "segments", "lost")
    )
    verdict = f"damaged, {_count(lost, 'block')} lost" if damage else "whole"
    click.echo(
        f"{folder}: {verdict}; {_count(blocks, 'good block')} with {_count(messages, 'message')} in "
        f"{_count(segments, 'segment')}, checksums and hash chain checked"
    )
    if running and any(each.torn for each in found.values()):
        click.echo("a block is being written at the end")


def _verified_object(name: str, found: "Verified") -> dict[str, object]:
    return {
        "name": name,
        **found._asdict(),
        "head": found.head.hex(),
        "breaks": [broken._asdict() for broken in found.breaks],
        "torn": found.torn and found.torn._asdict(),
    }


# --- cat ---


@spool.command()
@state_option
@click.option("--spool", "name", type=click.Choice(SPOOLS), default=SPOOLS[0], show_default=True, help="Which one.")
@click.option(
    "--from",
    "start",
    type=WholeNumber(min=1),
    metavar="BLOCK",
    default=1,
    show_default=True,
    help="Begin with this block.",
)
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    shell_complete=complete_type,
    help="Only messages of this type; repeatable.  [default: all]",
)
@click.option("--raw", "form", flag_value="raw", help="Messages as they are, a line feed after each.")
@click.option("--octet-counted", "form", flag_value="octet-counted", help="Messages as they are, each with its length.")
@click.option("--json", "form", flag_value="json", help="Print one JSON object a line, for programs.")
@config_option
@click.pass_context
def cat(
    context: click.Context, *, state: str | None, name: str, start: int, types: tuple[str, ...], form: str | None
) -> None:
    """Print the spool's messages, in order, to the present end."""
    if form in _RAW and sys.stdout.isatty():
        remedy = "redirect it, or leave the option out"
        raise click.UsageError(
            f"--{form} is not for a terminal, which would obey control characters; {remedy}", context
        )
    wanted = event_types(types)
    disk, folder = _opened(context, state)
    output = sys.stdout.buffer
    lost = _write_messages(disk, CatRequest(f"{folder}/spool/{name}", start, wanted), _FORMS[form or "escaped"], output)
    output.flush()
    if lost:
        raise _unreadable(folder, lost)


class CatRequest(NamedTuple):
    """What `cat` reads."""

    folder: str
    start: int
    types: "frozenset[EventType]"
    """Empty: all."""


def _write_messages(disk: "Disk", reading: CatRequest, form: "Form", output: BinaryIO) -> int:
    """Write what is wanted; returns how many places could not be read."""
    from relay.spool.block import Block
    from relay.spool.inspection.browse import walk_from

    lost = 0
    name = os.path.basename(reading.folder)
    with walk_from(disk, reading.folder, reading.start) as walk:
        while (found := walk.read(lambda header: _may_hold(header, reading))) is not None:
            if isinstance(found, Block):
                for kind, number, message in found.messages():
                    if not reading.types or kind in reading.types:
                        output.write(form(SpoolMessage(name, found.header.number, kind.label, number, message)))
            elif found.last >= reading.start:
                lost += 1
                click.echo(f"relay: {escaped(found.path)}: offset {found.offset}: {escaped(found.cause)}", err=True)
    return lost


def _may_hold(header: "Header", reading: CatRequest) -> bool:
    wanted = not reading.types or any(span.type in reading.types for span in header.spans)
    return header.number >= reading.start and wanted


def _unreadable(folder: str, lost: int) -> "DataError":
    from relay.errors import DataError

    return DataError(
        folder,
        f"{_count(lost, 'place')} could not be read, and its messages are left out",
        "see `relay spool verify`",
    )


class SpoolMessage(NamedTuple):
    """One message, and where it stands."""

    spool: str
    block: int
    type: str
    number: int
    octets: bytes


Form = Callable[[SpoolMessage], bytes]


def _as_line(message: SpoolMessage) -> bytes:
    return escaped(decoded(message.octets)).encode() + b"\n"


def _raw(message: SpoolMessage) -> bytes:
    return message.octets + b"\n"


def _octet_counted(message: SpoolMessage) -> bytes:
    return b"%d %b" % (len(message.octets), message.octets)


def _as_json(message: SpoolMessage) -> bytes:
    told = {"schema": "relay.spool-cat/1", **message._asdict()}
    del told["octets"]
    return json.dumps({**told, **message_fields(message.octets)}, ensure_ascii=False).encode() + b"\n"


_FORMS: Final[dict[str, Form]] = {
    "escaped": _as_line,
    "raw": _raw,
    "octet-counted": _octet_counted,
    "json": _as_json,
}
_RAW: Final = frozenset({"raw", "octet-counted"})


# --- What they share ---


def _opened(context: click.Context, state: str | None) -> "tuple[Disk, str]":
    from relay.program.history import require_state
    from relay.system.disk import Disk

    disk, folder = Disk(), state_directory(context, state)
    require_state(disk, folder)
    return disk, folder


def _pid(disk: "Disk", folder: str) -> int | None:
    """The process that writes there now."""
    return disk.lock_owner(f"{folder}/lock")


def _cursors(disk: "Disk", folder: str) -> dict[str, dict[str, int]]:
    """Spool → destination → the block that it gets next."""
    from relay.spool.inspection.overview import cursors

    found = cursors(disk, folder)
    return {name: {who: getattr(cursor, name) for who, cursor in found.items()} for name in SPOOLS}


def _print_json(schema: str, disk: "Disk", folder: str, **fields: object) -> None:
    told = {"schema": schema, "state_directory": folder, "pid": _pid(disk, folder), **fields}
    click.echo(json.dumps(told, ensure_ascii=False))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _time(microseconds: int) -> str:
    when = datetime.fromtimestamp(microseconds // _MICROSECONDS, UTC)
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")
