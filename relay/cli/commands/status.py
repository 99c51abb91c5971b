"""`relay status`: spool, sources and destinations, from the state directory and from the process that uses it.

--json prints one object with the schema "relay.status/1": the fields of `relay.program.status.status.Status`, times in
microseconds since the epoch, 0 for never. "live" is what a running process adds (`relay.program.status.live.Live`), or
null. `relay.cli.check_output` describes --check.
"""

from collections.abc import Iterator, Mapping

import click
import msgspec

from relay.cli.check_output import check_option, exit_with_check
from relay.cli.options import usual_options
from relay.cli.output import MICROSECONDS, print_json, print_line, utc
from relay.cli.parameter_types import duration
from relay.cli.state import state_directory, state_option
from relay.program.status import status as program_status
from relay.program.status.check_result import CheckResult
from relay.program.status.live import WAITING_FOR_PROOF, Live, LiveDestination, LiveSource
from relay.program.status.status import SCHEMA, DestinationStatus, SourceStatus, Status
from relay.program.status.status_check import AgeLimits, check_status
from relay.system.clock import wall_clock
from relay.system.disk import Disk
from relay.values.size import rounded_size
from relay.values.text import counted


@click.command()
@state_option
@check_option
@click.option(
    "--warning",
    metavar="AGE",
    type=duration,
    default="15m",
    show_default=True,
    help="With --check: warn when the oldest event without proof is so old.",
)
@click.option(
    "--critical",
    metavar="AGE",
    type=duration,
    default="1h",
    show_default=True,
    help="With --check: from this age on it is critical. An alarm is critical if its severity is, else a warning; a "
    "program that does not run is critical, and one that does not answer is unknown.",
)
@usual_options
def status(
    context: click.Context, *, state: str | None, as_check: bool, warning: float, critical: float, as_json: bool
) -> None:
    """Show what the spool holds, what each source has read, and what each destination has proven."""
    if as_check:

        def check() -> CheckResult:
            found = program_status.status(Disk(), state_directory(context, state))
            return check_status(found, wall_clock(), AgeLimits(warning, critical))

        exit_with_check(context, check, as_json=as_json)
    found = program_status.status(Disk(), state_directory(context, state))
    if as_json:
        fields = {
            **found._asdict(),
            "retained": found.retained._asdict(),
            "transient": found.transient._asdict(),
            "sources": [source._asdict() for source in found.sources],
            "destinations": [destination._asdict() for destination in found.destinations],
            "live": None if found.live is None else msgspec.to_builtins(found.live),
        }
        print_json(SCHEMA, **fields)
    else:
        for line in _lines(found, wall_clock()):
            print_line(line)


def _lines(found: Status, now: int) -> Iterator[str]:
    yield f"{found.state_directory}: {'not running' if found.pid is None else f'running, pid {found.pid}'}"
    live = found.live or Live(pid=0, started=0)
    for alarm in live.alarms:
        yield f"alarm        {alarm.severity}, {alarm.name}: {alarm.text}, since {utc(alarm.since)}"
    if live.intake_error:
        waiting = ", ".join(source.name for source in live.sources if source.waits_for_space)
        condition = f"waiting for space: {waiting}" if waiting else "the spool cannot be written"
        yield f"intake       {condition}: {live.intake_error}"
    if live.refused:
        refused = counted(sum(live.refused.values()), "event")
        yield f"intake       {refused} refused since the start{_by_type(live.refused)}: lost, and counted in a gap"
    for name, spool in (("retained", found.retained), ("transient", found.transient)):
        yield (
            f"spool        {name}: {counted(spool.events, 'event')}{_by_type(spool.by_type)}, "
            f"{rounded_size(spool.octets)} in {counted(spool.segments, 'segment')}"
        )
    live_sources = {source.name: source for source in live.sources}
    known = {source.name for source in found.sources}
    # A source that runs and has not read anything yet has no position.
    new = [SourceStatus(source.name, 0) for source in live.sources if source.name not in known]
    for source in (*found.sources, *new):
        yield f"source       {_source(source, live_sources.get(source.name))}"
    live_destinations = {destination.name: destination for destination in live.destinations}
    for destination in found.destinations:
        words = (_proof(destination, now), *_delivery(live_destinations.get(destination.name), now))
        yield f"destination  {destination.name}: {'; '.join(words)}"
    for part in live.parts:
        counters = ", ".join(f"{name} {number}" for name, number in part.counters.items() if number)
        facts = "; ".join(filter(None, (part.state, counters, part.error)))
        if facts:
            yield f"{part.name:<12} {facts}"


def _by_type(events: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{label} {number}' for label, number in events.items())})" if events else ""


def _source(source: SourceStatus, live: LiveSource | None) -> str:
    # Events since the very start, by its position; a source without a position counts from the start of the process.
    taken = f"{source.name}: {counted(source.events or (live.accepted if live else 0), 'event')} taken in"
    if live is None:
        return taken
    refused = f", {live.refused} refused" if live.refused else ""
    lag = "lag unknown" if live.lag < 0 else f"{counted(live.lag, 'byte')} to read"
    open_ = f", {counted(live.open_events, 'event')} incomplete" if live.open_events else ""
    malformed = f", {counted(live.malformed, 'malformed line')}" if live.malformed else ""
    lost = f", its position was lost {counted(live.lost_places, 'time')}" if live.lost_places else ""
    waits = "; waits for space in the spool, and is read on then" if live.waits_for_space else ""
    return f"{taken}{refused}; {lag}{open_}{malformed}{lost}{waits}{f'; {live.error}' if live.error else ''}"


def _proof(destination: DestinationStatus, now: int) -> str:
    proof = "nothing proven yet"
    if destination.proven_at:
        delivered = counted(destination.delivered, "event")
        last = f"last {utc(destination.proven_at)}"
        proof = (
            f"{delivered} sent, delivery not provable, {last}"
            if destination.proof == "unproven"
            else f"{delivered} proven ({destination.proof}), {last}"
        )
    waiting = "nothing else waits" if destination.missing_blocks else "nothing waits"
    if destination.waiting_events:
        seconds = max(now - destination.waiting_since, 0) / MICROSECONDS
        verb = "waits" if destination.waiting_events == 1 else "wait"
        size = rounded_size(destination.waiting_octets)
        waiting = f"{counted(destination.waiting_events, 'event')} {verb} ({size}, {seconds:.0f} s)"
    if not destination.missing_blocks:
        return f"{proof}; {waiting}"
    missing = f"{counted(destination.missing_blocks, 'block')} damaged or missing (`relay spool verify` shows them)"
    return f"{proof}; {waiting}; {missing}"


def _delivery(live: LiveDestination | None, now: int) -> Iterator[str]:
    """What the running delivery adds."""
    if live is None:
        return
    if not live.error:
        yield live.state
    if live.damage:
        yield f"{counted(live.damage, 'damaged place')} in the spool skipped"
    if live.refused:
        size = f"the largest has {counted(live.largest_refused, 'octet')}: set max-message-size to what"
        remedy = f" ({size} `relay test-connection --sizes` finds)" if live.largest_refused else ""
        yield f"{counted(live.refused, 'message')} not accepted by the server, kept in refused/{remedy}"
    if live.error:
        verb = "waiting" if live.state == WAITING_FOR_PROOF else "retrying"
        yield f"{verb} for {max(now - live.error_since, 0) / MICROSECONDS:.0f} s: {live.error}"
