"""The metrics as Prometheus' own tool reads them, and as the manual lists them."""

import datetime as dt
import re
import subprocess
from pathlib import Path

import pytest
from harness.debian import PROMETHEUS, fetch
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as families

from relay.program.metrics.backlog_index import Backlog
from relay.program.metrics.exposition import exposition
from relay.program.metrics.measurement import DestinationMeasurement, Measurement, SpoolMeasurement
from relay.program.metrics.metric_table import METRICS
from relay.program.status.live import Live, LiveAlarm, LiveDestination, LivePart, LiveSource
from relay.program.watch.certificate_watch import CertificateExpiry
from relay.program.watch.silence_watch import OriginatorCounts
from relay.values.histogram import COMMIT_BOUNDS, PROOF_BOUNDS, Histogram
from relay.values.text import escaped

ODD = 'a "name"\\ with\nall \N{LATIN SMALL LETTER E WITH ACUTE} that labels escape\x9b\u202e'
SHOWN = escaped(ODD)
SECOND = 1_000_000
PAGE = Path(__file__).parents[3] / "docs" / "monitoring.md"


def histogram(bounds: tuple[float, ...]) -> Histogram:
    made = Histogram(bounds)
    made.add(0.02, 3)
    return made


def measurement() -> Measurement:
    """Everything that can be measured occurs in it."""
    listener = {"open": 1, "connections": 2, "messages": 3, "octets": 4, "slow": 5}
    datagrams = {"messages": 6, "octets": 7, "dropped": 8}
    live = Live(
        pid=1,
        started=5 * SECOND,
        accepted={"audit": 7},
        refused={"relay": 1},
        destinations=(LiveDestination(name=ODD, state="delivering", error="no", proofs=2, damage=1, refused=1),),
        sources=(LiveSource(name="audit", lag=10), LiveSource(name="other", lag=-1)),
        parts=(
            LivePart(name="listeners", counters={**listener, "messages": 9, "refused_descriptors": 3}),
            LivePart(name="listener tcp://127.0.0.1:9999", counters=listener),
            LivePart(name="listener udp://127.0.0.1:514", counters=datagrams),
            LivePart(name="archive", counters={"messages": 8, "duplicates": 2, "new_parts": 1}),
            LivePart(name="ssh", counters={"rejected": 4}),
        ),
        alarms=(LiveAlarm(name="spool-full", severity="critical", text="x", since=9 * SECOND),),
    )
    return Measurement(
        now=100 * SECOND,
        version="1.2.3",
        python="3.11",
        live=live,
        pending_octets=11,
        commit_seconds=histogram(COMMIT_BOUNDS),
        spools=(SpoolMeasurement("retained", 5, 50, histogram(COMMIT_BOUNDS)),),
        used=1 << 40,
        max_size=1 << 41,
        free=12,
        lost={"": 1, ODD: 2},
        destinations=(
            DestinationMeasurement(ODD, 6, 90 * SECOND, histogram(PROOF_BOUNDS), Backlog(3, 30, 40 * SECOND)),
        ),
        certificates=(CertificateExpiry("", "/a.pem (`ca`)", dt.datetime.fromtimestamp(1000, dt.UTC)),),
        originators=OriginatorCounts(15, 2, 4, 1),
        archive_commit_seconds=histogram(COMMIT_BOUNDS),
        dropped_alarms=13,
    )


def samples(seen: Measurement) -> dict[tuple[str, tuple[str, ...]], float]:
    _, text = exposition(seen, "")
    parsed = families(text.decode())
    found = [sample for family in parsed for sample in family.samples]
    return {(each.name, tuple(each.labels.values())): each.value for each in found}


def test_promtool_accepts_every_metric_without_a_complaint() -> None:
    content_type, text = exposition(measurement(), "")
    assert content_type.startswith("text/plain; version=0.0.4")
    promtool = fetch(PROMETHEUS).file("usr/bin/promtool")
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), text.decode()
    assert {f"# TYPE {each.name} {each.type}" for each in METRICS} <= set(text.decode().splitlines())


def test_a_scraper_that_asks_for_openmetrics_gets_it() -> None:
    content_type, text = exposition(measurement(), "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    parsed = openmetrics(text.decode())  # type: ignore[no-untyped-call]  # this part of the library has no types
    assert len(list(parsed)) == len(METRICS)


def test_the_values_are_those_of_the_program_in_base_units() -> None:
    found = samples(measurement())
    assert found["relay_oldest_unproven_seconds", (SHOWN,)] == 60
    assert found["relay_backlog_events", (SHOWN,)] == 3
    assert found["relay_last_proof_timestamp_seconds", (SHOWN,)] == 90
    assert found["relay_alarms", ("critical",)] == 1
    assert found["relay_alarms", ("minor",)] == 0
    assert found["relay_alarm_raised_timestamp_seconds", ("spool-full", "critical", "")] == 9
    assert found["relay_certificate_expiry_timestamp_seconds", ("/a.pem (`ca`)", "")] == 1000
    assert found["relay_proof_latency_seconds_count", (SHOWN,)] == 3
    assert found["relay_lost_events_total", (SHOWN,)] == 2
    assert found["relay_source_lag_bytes", ("audit",)] == 10
    assert ("relay_source_lag_bytes", ("other",)) not in found, "an unknown lag is not a number"
    assert found["relay_part_events_total", ("rejected", "ssh")] == 4
    assert found["relay_part_events_total", ("new_parts", "archive")] == 1
    assert found["relay_archive_messages_total", ("duplicates",)] == 2
    assert ("relay_part_events_total", ("duplicates", "archive")) not in found


def test_events_of_every_type_and_losses_of_every_destination_are_counted_from_zero_on() -> None:
    """Prometheus' increase() ignores the first value of a counter that appears later."""
    found = samples(measurement()._replace(lost={}))
    assert found["relay_lost_events_total", ("",)] == 0
    assert found["relay_lost_events_total", (SHOWN,)] == 0
    assert found["relay_accepted_events_total", ("audit",)] == 7
    assert found["relay_accepted_events_total", ("traffic",)] == 0
    assert found["relay_refused_events_total", ("relay",)] == 1
    assert found["relay_refused_events_total", ("traffic",)] == 0


def test_listeners_are_counted_one_by_one_and_not_in_their_sum_again() -> None:
    seen = measurement()
    found = samples(seen)
    assert found["relay_listener_messages_total", ("tcp://127.0.0.1:9999",)] == 3
    assert ("relay_listener_messages_total", ("listeners",)) not in found
    assert found["relay_listener_faults_total", ("slow", "tcp://127.0.0.1:9999")] == 5
    assert found["relay_listener_faults_total", ("dropped", "udp://127.0.0.1:514")] == 8
    assert ("relay_listener_connections_total", ("udp://127.0.0.1:514",)) not in found
    assert found["relay_refused_connections_total", ("descriptors",)] == 3
    alone = seen._replace(live=Live(pid=1, started=0, parts=seen.live.parts[:1]))
    assert samples(alone)["relay_listener_messages_total", ("listeners",)] == 9


def test_what_is_not_known_is_left_out() -> None:
    seen = measurement()
    unknown = seen._replace(free=None, destinations=(seen.destinations[0]._replace(backlog=None, proven_at=0),))
    names = {name for name, _ in samples(unknown)}
    assert names.isdisjoint({"relay_disk_free_bytes", "relay_backlog_events", "relay_last_proof_timestamp_seconds"})


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_the_manual_has_every_metric_as_the_program_has_it(metric: object) -> None:
    rows = re.findall(r"^\| `(relay_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", PAGE.read_text(), re.MULTILINE)
    listed = {(name, type_): (labels, sentence) for name, type_, labels, sentence in rows}
    assert isinstance(metric, METRICS[0].__class__)
    assert listed[metric.name, metric.type] == (", ".join(metric.labels), metric.sentence)
    assert len(rows) == len(METRICS)
