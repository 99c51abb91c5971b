"""`relay fleet`: the originators of an archive.

`--json` prints {"schema": "relay.fleet/1", "archive", "pid" (null: no receiver runs), "now", "originators":
    [ORIGINATOR…], "missing": [PATTERN…], "unreadable": [TEXT…]}
    ORIGINATOR: {"name" (its folder), "state" ("ok", "warning", "critical"), "faults": [TEXT…], "silent", "disputed",
        "received" (the newest message), "event_time" (the latest of the newest messages), "lag" (seconds from event to
        receipt lately; null: no usable time), "peer", "identity" ("": nothing verified), "via", "heartbeat" (relay's
        last own event; 0: not a relay), "evidence" ("verified", "contested": several verified senders use the name,
        "unverified": any sender may have sent the heartbeat, "": not a relay), "version", "backlog": {SERVER:
        BLOCKS}, "alarms": [{"name", "severity", "about"}…], "lost" (events reported as lost since its start), "missing"
        (numbers missing among the newest)}
Times are microseconds since the epoch; 0: never. Later versions only add fields.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import click

from relay.cli.check_output import check_option, exit_with_check
from relay.cli.options import usual_options
from relay.cli.output import MICROSECONDS, print_json_list, print_line, report, utc
from relay.cli.parameter_types import duration
from relay.cli.state import archive_folder, bound_names, receiver_settings
from relay.program.status.check_result import CheckResult, CheckState
from relay.program.status.fleet import FLEET_SCHEMA, Fleet, FleetMember, SilenceLimits, check_fleet, read_fleet
from relay.system.clock import wall_clock
from relay.system.disk import Disk
from relay.values.duration import duration_text
from relay.values.text import counted

_HEADINGS = ("ORIGINATOR", "LAST MESSAGE", "LAG", "HEARTBEAT", "BACKLOG", "LOST", "VERSION", "SENDER", "STATE")


@click.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(readable=False))
@check_option
@click.option(
    "--warning",
    metavar="AGE",
    type=duration,
    default=duration_text(SilenceLimits().warning),
    show_default=True,
    help="A relay without a heartbeat for so long is silent.",
)
@click.option(
    "--critical",
    metavar="AGE",
    type=duration,
    default="1h",
    show_default=True,
    help="With --check: from this age on it is critical. Alarms that relays report count by their severity.",
)
@usual_options
def fleet(
    context: click.Context, *, folder: str | None, as_check: bool, warning: float, critical: float, as_json: bool
) -> None:
    """Show the originators of an archive: when they were last heard, and what relays report of themselves.

    DIR is the archive; without it, the configuration's, with what [[receiver.expect]] expects.
    """
    limits = SilenceLimits(warning, critical)

    def found() -> Fleet:
        archive = archive_folder(context, folder)
        expected = receiver_settings(context).expect if folder is None else ()
        return read_fleet(Disk(), archive, wall_clock(), expected, limits, bound_names(context, folder))

    def check() -> CheckResult:
        return check_fleet(found(), limits)

    if as_check:
        exit_with_check(context, check, as_json=as_json)
    answer = found()
    if as_json:
        print_json_list(
            FLEET_SCHEMA,
            {"archive": answer.archive, "pid": answer.pid, "now": answer.now},
            "originators",
            map(_as_json, answer.members),
            {"missing": [fault.text for fault in answer.missing], "unreadable": list(answer.unreadable)},
        )
        return
    for line in _lines(answer):
        print_line(line)
    for text in (*answer.unreadable, *(fault.text for fault in answer.missing)):
        report(text, prefix="warning: ")


def _as_json(member: FleetMember) -> dict[str, Any]:
    known = member.report
    own = known.report
    fields = known._asdict()
    del fields["own_received"], fields["report"], fields["own_senders"], fields["sender"]
    return {
        **fields,
        "state": max((fault.state for fault in member.faults), default=CheckState.OK).name.lower(),
        "faults": [fault.text for fault in member.faults],
        "silent": member.is_silent,
        "heartbeat": known.own_received,
        "evidence": known.evidence,
        "version": own.version if own else "",
        "backlog": own.backlog if own else {},
        "alarms": [alarm._asdict() for alarm in own.alarms] if own else [],
        "lost": own.lost if own else 0,
    }


def _lines(answer: Fleet) -> Iterator[str]:
    widths = list(map(len, _HEADINGS))
    for member in answer.members:  # a row is made twice, because thousands of them take much memory
        widths = list(map(max, widths, map(len, _row(member, answer.now))))
    for row in chain([_HEADINGS], (_row(member, answer.now) for member in answer.members)):
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
    silent = sum(member.is_silent for member in answer.members)
    running = "no receiver runs" if answer.pid is None else f"receiver running, pid {answer.pid}"
    yield f"{answer.archive}: {counted(len(answer.members), 'originator')}, {silent} silent; {running}"


def _row(member: FleetMember, now: int) -> tuple[str, ...]:
    known, own = member.report, member.report.report
    backlog = str(sum(own.backlog.values())) if own else "-"
    word = f", {known.evidence}" if known.evidence in {"unverified", "contested"} else ""
    heartbeat = f"{_age(now - known.own_received)} ago{word}" if known.own_received else "-"
    state = "; ".join(fault.text.removeprefix(f"{known.name}: ") for fault in member.faults)
    missing = f"{known.missing} numbers missing" if known.missing else ""
    return (
        known.name,
        utc(known.received) if known.received else "-",
        "-" if known.lag is None else _age(int(known.lag * MICROSECONDS)),
        heartbeat,
        backlog,
        str(own.lost) if own else "-",
        (own.version if own else "") or "-",
        " ".join(filter(None, (known.peer, known.identity))) or "-",
        "; ".join(filter(None, (state, missing))) or "ok",
    )


def _age(microseconds: int) -> str:
    """A duration for a table: 3s, 5m, 7h, 12d."""
    seconds, sign = abs(microseconds) / MICROSECONDS, "-" if microseconds < -MICROSECONDS else ""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{sign}{seconds / size:.0f}{unit}"
    return f"{sign}{seconds:.0f}s"
