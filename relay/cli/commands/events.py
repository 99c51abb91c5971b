"""`relay events`: the event history, of a spool or of an archive (`relay.cli.event_output` has the form of the output).

Whatever cannot be read is reported on stderr; the rest is printed, and the exit code is 65. --follow ends on SIGINT and
SIGTERM with 0, because this is how it is meant to end.

A bookmark is written after the output was flushed: once a second while there is output, and at the end. So a process
that is killed can print the events of its last second again when it continues, and leaves none out.
"""

import contextlib
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, tzinfo
from types import FrameType
from typing import Any, Final, Self

import click

from relay.cli.event_filters import ChosenFilters, filter_options, unknown_name
from relay.cli.event_output import EventDisplay, EventOutput
from relay.cli.options import files_option, options
from relay.cli.output import report
from relay.cli.parameter_types import WholeNumber
from relay.cli.state import archive_folder, receiver_zone, state_directory, state_option
from relay.errors import DataError
from relay.program.history.archive_history import ArchiveHistory
from relay.program.history.bookmark import Bookmark
from relay.program.history.event_filter import EventFilter
from relay.program.history.past_event import History, Item
from relay.system.disk import Disk
from relay.values.text import counted

POLL_SECONDS: Final = 0.2
SAVE_SECONDS: Final = 1.0
FOLLOWED_FROM: Final = 10
"""How many events --follow begins with."""


@click.command()
@click.option(
    "--archive",
    metavar="[DIR]",
    is_flag=False,
    flag_value="",
    type=click.Path(readable=False),
    help="Read this archive; without DIR, the configuration's. Options that only an archive can answer (--originator, "
    "--peer, --identity, --received-from, --received-to) imply it.  [default: read the spool]",
)
@state_option
@filter_options
@click.option(
    "--limit", type=WholeNumber(min=0), metavar="N", help="Only the N events that arrived last.  [default: all]"
)
@click.option("--reverse", is_flag=True, help="Show the newest event first; a spool needs --limit for it.")
@click.option(
    "--follow",
    is_flag=True,
    help=f"Continue with new events; begins with the last {FOLLOWED_FROM}, with --bookmark where that ended.",
)
@click.option(
    "--bookmark",
    metavar="FILE",
    type=click.Path(readable=False),
    help="Begin where the last call with this file ended, and note there how far events were printed.",
)
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
    reverse: bool,
    follow: bool,
    bookmark: str | None,
    full: bool,
    as_json: bool,
    **filters: Any,  # noqa: ANN401  what `filter_options` adds, which `ChosenFilters` names
) -> None:
    """Show the event history of the spool or of an archive, in the order of arrival.

    The oldest event comes first. The spool keeps delivered events only for a time; the log server's archive keeps all.
    In an archive, that is the order in which they were received from all senders.

    A repeated option widens the choice: an event needs one of its values. Different options narrow it: an event must
    meet all of them, and so must --field with different NAMEs. A router, MSGID or parameter that no event here has is
    an error (exit code 66); in an archive, patterns of MSGIDs are not checked.

    `relay events --follow --json --bookmark FILE` feeds another program: after a restart it continues where it ended.
    An event is printed again only if this process was killed.
    """
    chosen = ChosenFilters(**filters)
    in_archive = archive is not None or (state is None and chosen.of_archive)
    mistake = _contradiction(chosen, archive, state) or _contradiction_of_order(
        chosen, limit, in_archive=in_archive, reverse=reverse, follow=follow, bookmark=bookmark
    )
    if mistake:
        raise click.UsageError(mistake, context)
    if follow and limit is None and chosen.since is None and chosen.received_from is None and bookmark is None:
        limit = FOLLOWED_FROM
    folder = _history_folder(context, archive, state, in_archive=in_archive)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    display = EventDisplay(columns, full or options(context).verbosity > 0, in_archive)
    output = EventOutput(None if as_json else display)
    zone = receiver_zone(context) if in_archive else UTC
    source = _HistorySource(folder, in_archive=in_archive, bookmark=bookmark, zone=zone)
    history = source.open(chosen.event_filter(), continued=follow or bookmark is not None)
    with _Interruption() if follow else contextlib.nullcontext() as interruption:
        printer = _Printer(output, source, interruption)
        if reverse:
            printer.print(_reversed(history, limit))
        else:
            printer.print(history.events() if limit is None else history.newest(limit))
        if bookmark is None:
            unknown = unknown_name(chosen, output.shown, source.everything, in_archive=in_archive)
            if unknown is not None and not follow:
                raise unknown
            if unknown is not None:
                report(str(unknown))
        while interruption is not None and not interruption.requested:
            time.sleep(POLL_SECONDS)
            printer.print(history.events())
    if output.unreadable:
        check = f"archive verify {shlex.quote(folder)}" if in_archive else "spool verify"
        cause = f"{counted(output.unreadable, 'place')} could not be read; the events there are left out"
        raise DataError("event history", cause, f"see `relay {check}`")


def _history_folder(context: click.Context, archive: str | None, state: str | None, *, in_archive: bool) -> str:
    """The archive or the state directory; commands in remedies will name it too."""
    if not in_archive:
        return state_directory(context, state)
    folder = archive_folder(context, archive)
    options(context).paths["--archive"] = folder
    return folder


def _contradiction(chosen: ChosenFilters, archive: str | None, state: str | None) -> str:
    """What is wrong with the options that name a history; empty: nothing."""
    if archive is not None and state is not None:
        return "--archive and --state are two histories; name one"
    if state is not None and chosen.of_archive:
        needed = "--originator, --peer, --identity, --received-from and --received-to"
        return f"{needed} ask for what only an archive keeps; leave --state out"
    return ""


def _contradiction_of_order(
    chosen: ChosenFilters, limit: int | None, *, in_archive: bool, reverse: bool, follow: bool, bookmark: str | None
) -> str:
    """What is wrong with the options that say where to begin and end; empty: nothing."""
    if reverse and (follow or bookmark is not None):
        return "--reverse goes back in time; leave --follow and --bookmark out"
    if reverse and not in_archive and limit is None:
        return "a spool can only be read forward; name how many events --reverse shows: --limit N"
    if bookmark is not None and limit is not None:
        return "--bookmark says where to begin; leave --limit out"
    if follow and (chosen.until is not None or chosen.received_to is not None):
        return "--follow has no end; leave --to and --received-to out"
    return ""


def _reversed(history: History, limit: int | None) -> Iterable[Item]:
    if isinstance(history, ArchiveHistory):
        return history.backward(limit)
    return reversed(list(history.newest(limit or 0)))


class _HistorySource:
    """Opens the history of a folder, and keeps how far it was read."""

    def __init__(self, folder: str, *, in_archive: bool, bookmark: str | None, zone: tzinfo) -> None:
        self._folder = folder
        self._zone = zone
        self._in_archive = in_archive
        self._bookmark = None if bookmark is None else Bookmark(Disk(), bookmark)
        self._save: Callable[[], None] = lambda: None

    def open(self, event_filter: EventFilter, *, continued: bool) -> History:
        """The history, from the bookmark on; `continued`: it will be read further, now or by a later process."""
        bookmark = self._bookmark
        if self._in_archive:
            positions = bookmark.archive_positions() if bookmark else None
            archive = ArchiveHistory(
                Disk(), self._folder, event_filter, following=continued, positions=positions, zone=self._zone
            )
            if bookmark:
                self._save = lambda: bookmark.save_archive(archive.positions)
            return archive
        from relay.program.history.spool_history import SpoolHistory  # noqa: PLC0415  30 ms, which archives do not need

        spool = SpoolHistory(Disk(), self._folder, event_filter, bookmark.spool_positions() if bookmark else None)
        if bookmark:
            self._save = lambda: bookmark.save_spools(spool.positions)
        return spool

    def everything(self, event_filter: EventFilter) -> Iterator[Item]:
        """The history again from its beginning, to look for names."""
        without_bookmark = _HistorySource(self._folder, in_archive=self._in_archive, bookmark=None, zone=self._zone)
        return without_bookmark.open(event_filter, continued=False).events()

    def save(self) -> None:
        """Write the bookmark; what was printed so far must have been flushed."""
        self._save()


class _Interruption:
    """SIGINT and SIGTERM, while a history is followed. A second one ends a write that does not return."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        return kind is KeyboardInterrupt

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class _Printer:
    """Prints events, and saves the bookmark behind them."""

    def __init__(self, output: EventOutput, source: _HistorySource, interruption: _Interruption | None) -> None:
        self._output = output
        self._source = source
        self._interruption = interruption
        self._saved = time.monotonic()

    def print(self, items: Iterable[Item]) -> None:
        """Print them all, or until an interruption."""
        for _ in self._output.show(items):
            if self._interruption is not None and self._interruption.requested:
                break
            if time.monotonic() - self._saved > SAVE_SECONDS:
                self._flush()
        self._flush()

    def _flush(self) -> None:
        sys.stdout.flush()
        self._source.save()
        self._saved = time.monotonic()
