r"""`relay events`: the event history, of a spool or of an archive.

For people, one line an event: time (UTC), in an archive also the originator, type, MSGID, and the first record without
what the columns before contain. An event without text is summarised from its parameters (`relay.cli.event_summary`).
A line is cut to the terminal's width. With --json one object a line, in the same order:
    {"schema": "relay.events/1", "time" (RFC 3339, UTC; null: the message has none), "hostname", "app_name", "msgid"
     (null: the message has none), "facility", "severity" (null: not RFC 5424), "type", "router", "node" (null: the
     message has none), "run", "number", "part", "parts" (null: not a message of relay's), "structured_data":
     {SD-ID: {NAME: VALUE}}, "message", "message_base64"}
VALUE is a text, or a list of texts where a name occurs several times. "message" is MSG, or the whole message when it is
not RFC 5424. Octets that are not UTF-8 are escaped in it (`\xNN`); only then "message_base64" has them exactly, else it
is null.

Whatever cannot be read is reported on stderr; the rest is printed, and the exit code is 65. --follow ends on SIGINT
with 0, because this is how it is meant to end.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import click

from relay.cli.event_filters import ChosenFilters, filter_options, unknown_name
from relay.cli.event_summary import NOTHING, parameters, summary
from relay.cli.options import files_option, options
from relay.cli.output import message_as_json, report
from relay.cli.parameter_types import WholeNumber
from relay.cli.state import existing_folder, state_directory, state_option
from relay.errors import DataError
from relay.program.history import ArchiveHistory, EventFilter, History, Item, PastEvent, SpoolHistory, UnreadableStretch
from relay.syslog import rfc5424
from relay.syslog.rfc5424 import Message
from relay.system.clock import wall_clock
from relay.system.disk import Disk
from relay.values.text import counted, decoded, escaped, fitted

SCHEMA: Final = "relay.events/1"
POLL_SECONDS: Final = 0.2
FOLLOWED_FROM: Final = 10
"""How many events --follow begins with."""
MAX_REPORTED: Final = 20
"""How many stretches that cannot be read are named."""

_AUDIT_HEAD: Final = re.compile(r"(?:node=\S+ )?type=\S+ msg=audit\([^)]*\):? ?")
_AUDITD: Final = b"auditd"
_BOM: Final = b"\xef\xbb\xbf"


class EventDisplay(NamedTuple):
    """How events are shown to people."""

    columns: int | None
    """None: whole lines."""
    full: bool
    """Every record, each on a line of its own."""
    originators: bool


@click.command()
@click.option(
    "--archive", metavar="DIR", type=click.Path(readable=False), help="Read this archive.  [default: read the spool]"
)
@state_option
@filter_options
@click.option(
    "--limit", type=WholeNumber(min=0), metavar="N", help="Only the N events that arrived last.  [default: all]"
)
@click.option("--follow", is_flag=True, help=f"Continue with new events; begins with the last {FOLLOWED_FROM}.")
@click.option("--full", is_flag=True, help="Show each message in full; -v does the same.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, for programs.")
@files_option
@click.pass_context
def events(  # noqa: PLR0913  one parameter an option
    context: click.Context,
    /,
    *,
    archive: str | None,
    state: str | None,
    limit: int | None,
    follow: bool,
    full: bool,
    as_json: bool,
    **filters: Any,  # noqa: ANN401  what `filter_options` adds, which `ChosenFilters` names
) -> None:
    """Show the event history of the spool or of an archive, in the order of arrival.

    The oldest event comes first. The spool keeps delivered events only for a time; the log server's archive keeps all.
    In an archive, the events of several originators on one day are merged by time.

    A repeated option widens the choice: an event needs one of its values. Different options narrow it: an event must
    meet all of them, and so must --field with different NAMEs. A router, MSGID or parameter that no event here has is
    an error (exit code 66).
    """
    chosen = ChosenFilters(**filters)
    if follow and chosen.until is not None:
        raise click.UsageError("--follow has no end; leave --to out", context)
    if follow and limit is None and chosen.since is None:
        limit = FOLLOWED_FROM
    if archive is not None and state is not None:
        raise click.UsageError("--archive and --state are two histories; name one", context)
    folder = state_directory(context, state) if archive is None else existing_folder(context, "--archive", archive)

    def open_history(chosen: EventFilter) -> History:
        if archive is None:
            return SpoolHistory(Disk(), folder, chosen)
        return ArchiveHistory(Disk(), folder, chosen, wall_clock)

    history = open_history(chosen.event_filter())
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    display = EventDisplay(columns, full or options(context).verbosity > 0, archive is not None)
    output = _EventOutput(None if as_json else display)
    with contextlib.suppress(KeyboardInterrupt) if follow else contextlib.nullcontext():
        output.show(history.events() if limit is None else history.newest(limit))
        unknown = unknown_name(chosen, output.shown, lambda: open_history(EventFilter()).events())
        if unknown is not None and not follow:
            raise unknown
        if unknown is not None:
            report(str(unknown))
        while follow:
            time.sleep(POLL_SECONDS)
            output.show(history.events())
    if output.unreadable:
        check = "spool verify" if archive is None else f"archive verify {shlex.quote(os.path.abspath(archive))}"
        cause = f"{counted(output.unreadable, 'place')} could not be read; the events there are left out"
        raise DataError("event history", cause, f"see `relay {check}`")


class _EventOutput:
    """Events on standard output; `display` is None for JSON."""

    def __init__(self, display: EventDisplay | None) -> None:
        self._display = display
        self._encoding = "utf-8" if display is None else sys.stdout.encoding
        self.shown = 0
        """Events."""
        self.unreadable = 0
        """Stretches."""

    def show(self, items: Iterable[Item]) -> None:
        """Print them; stretches that cannot be read go to stderr."""
        stdout, is_terminal = sys.stdout.buffer, sys.stdout.isatty()
        for item in items:
            if isinstance(item, UnreadableStretch):
                self.unreadable += 1
                if self.unreadable <= MAX_REPORTED:
                    report(f"{item.path}: offset {item.offset}: {item.cause}")
                continue
            self.shown += 1
            text = _json_line(item) if self._display is None else _lines(item, self._display)
            stdout.write(text.encode(self._encoding, "backslashreplace"))
            if is_terminal:
                stdout.flush()
        stdout.flush()


def _lines(event: PastEvent, display: EventDisplay) -> str:
    message = _parsed(event.message)
    # The BOM (RFC 5424 section 6.4) says that MSG is UTF-8; it is not part of the text.
    octets = event.message if message is None else message.msg or b""
    text = decoded(octets.removeprefix(_BOM)).removesuffix("\n")
    records = [record for record in text.split("\n") if record.strip()]
    head = [_timestamp(message) or "-", event.type, _field(message.msgid if message else None) or "-"]
    if display.originators:
        head.insert(1, _field(message.hostname if message else None) or "-")
    if display.full:
        if message is not None and not (message.app_name == _AUDITD and message.msg):  # whose records have them all
            records += [f"{name}={value}" for name, value in parameters(message)]
        lines = ("  ".join(head), *(f"    {record}" for record in records or [NOTHING]))
        return "".join(f"{escaped(line)}\n" for line in lines)
    first = _AUDIT_HEAD.sub("", records[0], count=1) if records else ""
    if not first.strip():
        first = summary(event.type, message) if message else NOTHING
    more = f"  (+{len(records) - 1})" if len(records) > 1 else ""
    line = f"{head[0]:<24}  {'  '.join(f'{escaped(field):<10}' for field in head[1:])}  {escaped(first)}"
    return f"{fitted(line, display.columns and display.columns - len(more))}{more}\n"


def _json_line(event: PastEvent) -> str:
    message = _parsed(event.message)
    identity = rfc5424.identity(event.message)
    data: dict[str, dict[str, str | list[str]]] = {}
    for element in message.structured_data if message else ():
        values: dict[str, list[str]] = {}
        for name, value in element.params:
            values.setdefault(decoded(name), []).append(decoded(value))
        data[decoded(element.id)] = {name: found[0] if len(found) == 1 else found for name, found in values.items()}
    own = next(iter(data.values()), {})
    fields = {
        "schema": SCHEMA,
        "time": _timestamp(message),
        "hostname": _field(message.hostname if message else None),
        "app_name": _field(message.app_name if message else None),
        "msgid": _field(message.msgid if message else None),
        "facility": message and message.facility,
        "severity": message and message.severity,
        "type": event.type,
        "router": own.get("router"),
        "node": own.get("node"),
        "run": decoded(identity.run) if identity else None,
        "number": identity and identity.sequence,
        "part": identity and identity.part,
        "parts": identity and identity.parts,
        "structured_data": data,
        **message_as_json(event.message if message is None else message.msg or b""),
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _parsed(message: bytes) -> Message | None:
    try:
        return rfc5424.parse(message)
    except rfc5424.NotRfc5424Error:
        return None


def _timestamp(message: Message | None) -> str | None:
    """TIMESTAMP in UTC."""
    if message is None or message.timestamp is None:
        return None
    try:
        return rfc5424.format_timestamp(rfc5424.microseconds(message.timestamp)).decode()
    except OverflowError:  # a zone that leads out of the years 1 to 9999
        return message.timestamp.decode()


def _field(octets: bytes | None) -> str | None:
    return None if octets is None else decoded(octets)
