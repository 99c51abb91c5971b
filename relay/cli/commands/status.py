"""`relay status`: spool, sources, destinations, from the state directory.

--json prints one object with the schema "relay.status/1": the fields of `relay.program.status.Status`, times in
microseconds since the epoch, 0 for never. "live" is what a running process adds (`relay.program.live.Live`), or
null.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from relay.cli.options import config_option
from relay.cli.state import state_directory, state_option
from relay.errors import RelayError
from relay.system.clock import wall_clock
from relay.values.size import rounded_size
from relay.values.text import escaped

if TYPE_CHECKING:
    from relay.program.live import Live, LiveAlarm, LiveDestination, LivePart, LiveSource
    from relay.program.status import DestinationStatus, SourceStatus, SpoolStatus, Status

_MICROSECONDS = 1_000_000


@click.command()
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@config_option
@click.pass_context
def status(context: click.Context, *, state: str | None, as_json: bool) -> None:
    """Show what the spool holds, how far each destination is proven, and how far each source has come."""
    from relay.program.status import SCHEMA
    from relay.program.status import status as look
    from relay.system.disk import Disk

    found = look(Disk(), state_directory(context, state))
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, **_object(found)}))
    else:
        lines = _lines(found, wall_clock())
        click.echo("\n".join(escaped(RelayError.complete(line)) for line in lines))


def _object(found: "Status") -> dict[str, object]:
    import msgspec

    return {
        **found._asdict(),
        "retained": found.retained._asdict(),
        "transient": found.transient._asdict(),
        "sources": [source._asdict() for source in found.sources],
        "destinations": [destination._asdict() for destination in found.destinations],
        "live": None if found.live is None else msgspec.to_builtins(found.live),
    }


def _lines(found: "Status", now: int) -> list[str]:
    from relay.program.live import Live

    live = found.live or Live(pid=0, started=0)
    sources = {source.name: source for source in live.sources}
    destinations = {destination.name: destination for destination in live.destinations}
    running = f"running, pid {found.pid}" if found.pid is not None else "not running"
    return [
        f"{found.state_directory}: {running}",
        *(_alarm(alarm) for alarm in live.alarms),
        *([f"intake       {_waiting(live)}: {live.intake_error}"] if live.intake_error else []),
        *([f"intake       {_refused(live.refused)}"] if live.refused else []),
        *(_spool(name, spool) for name, spool in (("retained", found.retained), ("transient", found.transient))),
        *(
            f"source       {source.name}: {_taken_in(source, sources.get(source.name))}"
            f"{_source(sources.get(source.name))}"
            for source in _sources(found, live)
        ),
        *(
            f"destination  {_destination(destination, now)}{_delivery(destinations.get(destination.name), now)}"
            for destination in found.destinations
        ),
        *(_part(part) for part in live.parts),
    ]


def _sources(found: "Status", live: "Live") -> "list[SourceStatus]":
    """Those that have a position, and those that run and have given nothing yet."""
    from relay.program.status import SourceStatus

    known = {source.name for source in found.sources}
    waiting = [SourceStatus(source.name, 0) for source in live.sources if source.name not in known]
    return [*found.sources, *waiting]


def _waiting(live: "Live") -> str:
    names = [source.name for source in live.sources if source.waits_for_space]
    return f"waiting for space: {', '.join(names)}" if names else "the spool cannot be written"


def _refused(by_type: Mapping[str, int]) -> str:
    total = sum(by_type.values())
    events = "1 event" if total == 1 else f"{total} events"
    return f"{events} refused since the start{_types(by_type)}: counted in a gap, and lost"


def _taken_in(source: "SourceStatus", live: "LiveSource | None") -> str:
    """What a source has given: ever, by its position; one without a position since the start."""
    taken = source.events or (live.accepted if live else 0)
    refused = f", {live.refused} refused" if live and live.refused else ""
    return f"{taken} events taken in{refused}"


def _alarm(alarm: "LiveAlarm") -> str:
    return f"alarm        {alarm.severity}, {alarm.name}: {alarm.text}, since {_when(alarm.since)}"


def _when(microseconds: int) -> str:
    return (
        datetime.fromtimestamp(microseconds / _MICROSECONDS, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )


def _source(live: "LiveSource | None") -> str:
    if live is None:
        return ""
    lag = "lag unknown" if live.lag < 0 else f"{live.lag} octets to read"
    held = f", {live.open_events} events begun" if live.open_events else ""
    malformed = f", {live.malformed} malformed lines" if live.malformed else ""
    lost = f", its place was lost {live.lost_places} times" if live.lost_places else ""
    waits = "; waits for space in the spool, and is read on then" if live.waits_for_space else ""
    return f"; {lag}{held}{malformed}{lost}{waits}{f'; {live.error}' if live.error else ''}"


def _delivery(live: "LiveDestination | None", now: int) -> str:
    if live is None:
        return ""
    damage = f"; {live.damage} damaged places stepped over" if live.damage else ""
    refused = _not_accepted(live)
    if not live.error:
        return f"; {live.state}{damage}{refused}"
    seconds = max(now - live.error_since, 0) / _MICROSECONDS
    return f"; {live.state}{damage}{refused}; retrying for {seconds:.0f} s: {live.error}"


def _not_accepted(live: "LiveDestination") -> str:
    if not live.refused:
        return ""
    kept = f"; {live.refused} message{'s' if live.refused > 1 else ''} not accepted by the server, kept in refused/"
    if not live.largest_refused:
        return kept
    size = f"the largest has {live.largest_refused} octets"
    return f"{kept} ({size}: set max-message-size to what `relay test-connection --sizes` finds)"


def _part(live: "LivePart") -> str:
    counters = ", ".join(f"{name} {count}" for name, count in live.counters.items() if count)
    told = "; ".join(text for text in (live.state, counters, live.error) if text)
    return f"{live.name:<12} {told}"


def _spool(name: str, spool: "SpoolStatus") -> str:
    return (
        f"spool        {name}: {spool.events} events{_types(spool.by_type)}, "
        f"{rounded_size(spool.octets)} in {spool.segments} segments"
    )


def _types(by_type: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{label} {count}' for label, count in by_type.items())})" if by_type else ""


def _destination(destination: "DestinationStatus", now: int) -> str:
    behind = "nothing waits" if not destination.missing_blocks else "nothing else waits"
    if destination.waiting_events:
        seconds = max(now - destination.waiting_since, 0) / _MICROSECONDS
        behind = (
            f"{destination.waiting_events} events wait ({rounded_size(destination.waiting_octets)}, {seconds:.0f} s)"
        )
    proof = "nothing proven yet"
    if destination.proven_at:
        proof = f"{destination.delivered} events proven ({destination.proof}), last {_when(destination.proven_at)}"
    missing = ""
    if destination.missing_blocks:
        blocks = "1 block is" if destination.missing_blocks == 1 else f"{destination.missing_blocks} blocks are"
        missing = f"; {blocks} damaged or missing (`relay spool verify` shows them)"
    return f"{destination.name}: {proof}; {behind}{missing}"
