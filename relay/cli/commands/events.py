r"""`relay events`: the event history, of a spool or of an archive.

For people, one line an event: time (UTC), in an archive also the originator, type, MSGID, and the first record without
what these say already, or, where there is no text, the parameters in words (`relay.cli.in_words`); cut to the
terminal's width. With --json one object a line, in the same order:
    {"schema": "relay.events/1", "time" (RFC 3339, UTC; null: the message says none), "hostname", "app_name", "msgid"
     (null: the message says none), "facility", "severity" (null: no RFC 5424 message), "type", "router", "node" (null:
     unsaid), "run", "number", "part", "parts" (null: no message of relay's), "structured_data":
     {SD-ID: {NAME: VALUE}}, "message", "message_base64"}
VALUE is a text, or a list of texts where the name stands several times. message is MSG, or the whole message when it is
no RFC 5424; octets that are no UTF-8 are escaped in it (`\xNN`), and only then message_base64 has them exactly, else it
is null.

What cannot be read is told on standard error; the rest is printed, and the exit code is 65. --follow ends with 0 on
SIGINT, which is how it is meant to end.
"""

import base64
import contextlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from relay.cli.event_filters import ChosenFilters, filter_options, unknown_name, wanted
from relay.cli.in_words import NOTHING, in_words, parameters
from relay.cli.number import WholeNumber
from relay.cli.options import files_option, options
from relay.cli.state import existing_folder, state_directory, state_option
from relay.cli.times import now
from relay.values.text import decoded, escaped, fitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from relay.errors import RelayError
    from relay.program.history import EventFilter, History, Item, PastEvent, UnreadableStretch
    from relay.syslog.rfc5424 import Message

SCHEMA: Final = "relay.events/1"
POLL_SECONDS: Final = 0.2
FOLLOWED_FROM: Final = 10
"""How many events --follow begins with."""
MOST_TOLD: Final = 20
"""How many places that cannot be read are named."""

Value = str | list[str]
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
    "--archive", metavar="DIR", type=click.Path(readable=False), help="Read this archive.  [default: the spool is read]"
)
@state_option
@filter_options
@click.option("--limit", type=WholeNumber(min=0), metavar="N", help="The N that arrived last.  [default: all]")
@click.option("--follow", is_flag=True, help=f"Continue with what arrives; begins with the last {FOLLOWED_FROM}.")
@click.option("--full", is_flag=True, help="Show all of each message; -v does the same.")
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
    """Show the event history: of the spool, or of an archive; in the order of arrival, the oldest first.

    relay shows the events that it still has: the log server's archive has those that were deleted here after their
    delivery. In an archive the events that several originators sent on one day are merged by time.

    A repeated option widens the choice: one of its values is enough. Different options narrow it: all of them must
    hold, and so must --field with different NAMEs. A router, MSGID or parameter that no event here has is an error
    (exit code 66).
    """
    from relay.program.history import EventFilter

    chosen = ChosenFilters(**filters)
    if follow and chosen.until:
        raise click.UsageError("--follow goes on for ever; leave --to out", context)
    if follow and limit is None and not chosen.since:
        limit = FOLLOWED_FROM
    wanted_events = wanted(chosen)
    opened = _opener(context, archive, state)
    history = opened(wanted_events)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    display = EventDisplay(columns, full or options(context).verbosity > 0, archive is not None)
    output = _EventOutput(None if as_json else display)
    with contextlib.suppress(KeyboardInterrupt) if follow else contextlib.nullcontext():
        output.show(history.events() if limit is None else history.newest(limit))
        unknown = unknown_name(chosen, output.shown, lambda: opened(EventFilter()).events())
        if unknown is not None and not follow:
            raise unknown
        if unknown is not None:
            click.echo(f"relay: {escaped(str(unknown))}", err=True)
        while follow:
            time.sleep(POLL_SECONDS)
            output.show(history.events())
    if output.unread:
        raise _damaged(output.unread, archive)


def _opener(context: click.Context, archive: str | None, state: str | None) -> "Callable[[EventFilter], History]":
    """What opens the history that is meant, from its beginning."""
    from relay.program.history import ArchiveHistory, SpoolHistory
    from relay.system.disk import Disk

    if archive is None:
        folder = state_directory(context, state)
        return lambda wanted: SpoolHistory(Disk(), folder, wanted)
    if state is not None:
        raise click.UsageError("--archive and --state are two histories; name one", context)
    kept = existing_folder(context, "--archive", archive)
    return lambda wanted: ArchiveHistory(Disk(), kept, wanted, now)


def _damaged(unread: int, archive: str | None) -> "RelayError":
    from relay.errors import DataError

    told = "1 place" if unread == 1 else f"{unread} places"
    check = "spool verify" if archive is None else f"archive verify {shlex.quote(os.path.abspath(archive))}"
    return DataError("event history", f"{told} could not be read, and its events are left out", f"see `relay {check}`")


class _EventOutput:
    """Standard output, for one listing and what follows it."""

    def __init__(self, display: EventDisplay | None) -> None:
        self._display = display
        self._encoding = "utf-8" if display is None else sys.stdout.encoding
        self.shown = 0
        """Events."""
        self.unread = 0
        """Places that could not be read."""

    def show(self, items: "Iterable[Item]") -> None:
        """Print them; what cannot be read goes to standard error."""
        from relay.program.history import UnreadableStretch

        to, terminal = sys.stdout.buffer, sys.stdout.isatty()
        for item in items:
            if isinstance(item, UnreadableStretch):
                self._tell(item)
                continue
            self.shown += 1
            text = _json_line(item) if self._display is None else _lines(item, self._display)
            to.write(text.encode(self._encoding, "backslashreplace"))
            if terminal:
                to.flush()
        to.flush()

    def _tell(self, item: "UnreadableStretch") -> None:
        self.unread += 1
        if self.unread <= MOST_TOLD:
            click.echo(f"relay: {escaped(item.path)}: offset {item.offset}: {escaped(item.cause)}", err=True)


# --- For people ---


def _lines(event: "PastEvent", display: EventDisplay) -> str:
    message = _parsed(event.message)
    text = _text(event.message if message is None else message.msg)
    records = [record for record in text.split("\n") if record.strip()]
    head = [_timestamp(message) or "-", event.type, _field(message.msgid if message else None) or "-"]
    if display.originators:
        head.insert(1, _field(message.hostname if message else None) or "-")
    if display.full:
        body = records if message is None else [*records, *_parameter_lines(message)]
        return "".join(f"{line}\n" for line in (escaped("  ".join(head)), *(f"    {escaped(line)}" for line in body)))
    first = _AUDIT_HEAD.sub("", records[0], count=1) if records else ""
    if not first.strip():
        first = in_words(event.type, message) if message else NOTHING
    more = f"  (+{len(records) - 1})" if len(records) > 1 else ""
    line = f"{head[0]:<24}  {'  '.join(f'{escaped(field):<10}' for field in head[1:])}  {escaped(first)}"
    if display.columns is None:
        return f"{line}{more}\n"
    return f"{fitted(line, display.columns - len(more))}{more}\n"


def _parameter_lines(message: "Message") -> list[str]:
    """The parameters of a message; those of an audit event are in its records already."""
    if message.app_name == _AUDITD and message.msg:
        return []
    return [f"{name}={value}" for name, value in parameters(message)] or ([] if message.msg else [NOTHING])


def _parsed(message: bytes) -> "Message | None":
    from relay.syslog import rfc5424

    try:
        return rfc5424.parse(message)
    except rfc5424.NotRfc5424Error:
        return None


def _timestamp(message: "Message | None") -> str | None:
    """TIMESTAMP in UTC."""
    from relay.syslog import rfc5424

    if message is None or message.timestamp is None:
        return None
    try:
        return rfc5424.format_timestamp(rfc5424.microseconds(message.timestamp)).decode()
    except OverflowError:  # a zone that leads out of the years 1 to 9999
        return message.timestamp.decode()


def _text(octets: bytes | None) -> str:
    """MSG as text; the BOM (RFC 5424 section 6.4) says what it is and is no part of it."""
    return decoded((octets or b"").removeprefix(_BOM)).removesuffix("\n")


def _field(octets: bytes | None) -> str | None:
    return None if octets is None else decoded(octets)


# --- For programs ---


def _json_line(event: "PastEvent") -> str:
    from relay.syslog import rfc5424

    message = _parsed(event.message)
    identity = rfc5424.identity(event.message)
    octets = event.message if message is None else message.msg or b""
    data = _structured_data(message)
    own: dict[str, Value] = next(iter(data.values()), {})
    told = {
        "schema": SCHEMA,
        "time": _timestamp(message),
        "hostname": _field(message.hostname) if message else None,
        "app_name": _field(message.app_name) if message else None,
        "msgid": _field(message.msgid) if message else None,
        "facility": message.facility if message else None,
        "severity": message.severity if message else None,
        "type": event.type,
        "router": own.get("router"),
        "node": own.get("node"),
        "run": decoded(identity.run) if identity else None,
        "number": identity.sequence if identity else None,
        "part": identity.part if identity else None,
        "parts": identity.parts if identity else None,
        "structured_data": data,
        **message_fields(octets),
    }
    return json.dumps(told, ensure_ascii=False) + "\n"


def message_fields(octets: bytes) -> dict[str, str | None]:
    """The fields `message` and `message_base64`."""
    try:
        return {"message": octets.decode(), "message_base64": None}
    except UnicodeDecodeError:
        return {"message": decoded(octets), "message_base64": base64.b64encode(octets).decode()}


def _structured_data(message: "Message | None") -> dict[str, dict[str, Value]]:
    found: dict[str, dict[str, Value]] = {}
    for element in message.structured_data if message else ():
        params: dict[str, list[str]] = {}
        for name, value in element.params:
            params.setdefault(decoded(name), []).append(decoded(value))
        found[decoded(element.id)] = {
            name: values[0] if len(values) == 1 else list[str](values) for name, values in params.items()
        }
    return found
