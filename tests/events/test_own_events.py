"""relay's own events, octet by octet, and as a receiver parses them."""

import pytest

from relay.events import own_events
from relay.events.own_events import Author, HeartbeatReport, PreviousRun
from relay.spool.losses.gap import Gap, LostRange
from relay.syslog.rfc5424 import parse
from relay.values.alarm import Alarm, AlarmChange
from relay.values.event import Event, EventType

AUTHOR = Author("combo1", "fabric", "test1", "128T")
NOW = 1_709_742_862_344_000
RUN = "00112233445566aa"


def with_identity(event: Event) -> bytes:
    """As the spool keeps it, with its identity."""
    assert event.type is EventType.RELAY
    return b'%b relayRun="r" relaySeq="1"%b' % (event.head, event.tail)


def params(event: Event) -> list[tuple[bytes, bytes]]:
    message = parse(with_identity(event))
    assert (message.app_name, message.facility) == (b"relay", 5)
    (element,) = message.structured_data
    assert element.params[2:5] == ((b"type", b"relay"), (b"router", b"fabric"), (b"node", b"test1"))
    return list(element.params[5:])


def test_an_opening_names_the_run_before_it_and_its_last_sequence_numbers() -> None:
    previous = PreviousRun(bytes.fromhex(RUN), {EventType.RELAY: 3, EventType.AUDIT: 26})
    event = own_events.opening(AUTHOR, NOW, previous)
    assert with_identity(event) == (
        b'<46>1 2024-03-06T16:34:22.344Z combo1 relay - OPENING [128T relayRun="r" relaySeq="1" type="relay" '
        b'router="fabric" node="test1" previousRun="00112233445566aa" last="audit 26" last="relay 3"] '
        b"relay begins a new run after 00112233445566aa"
    )


def test_the_first_opening_names_no_run_before_it() -> None:
    assert params(own_events.opening(AUTHOR, NOW, None)) == []


def test_a_heartbeat_has_sequence_numbers_chain_and_backlog() -> None:
    report = HeartbeatReport({EventType.AUDIT: 5}, b"\x01\xff", {"10.0.0.1:60": 12})
    event = own_events.heartbeat(AUTHOR, NOW, report)
    assert params(event) == [(b"last", b"audit 5"), (b"chain", b"01ff"), (b"backlog", b"10.0.0.1:60 12")]


def test_a_heartbeat_has_the_version_and_the_worst_of_the_raised_alarms() -> None:
    alarms = [Alarm("certificate-ends", "minor", "text", f"server {number}") for number in range(9)]
    report = HeartbeatReport({}, b"", {}, "1.2.3", [*alarms, Alarm("spool-full", "critical", "text")])
    found = params(own_events.heartbeat(AUTHOR, NOW, report))
    assert found[:3] == [
        (b"version", b"1.2.3"),
        (b"raised", b"spool-full critical"),
        (b"raised", b"certificate-ends minor server 0"),
    ]
    assert len(found) == 1 + own_events.MOST_ALARMS


def test_an_opening_has_the_version() -> None:
    assert params(own_events.opening(AUTHOR, NOW, None, "1.2.3")) == [(b"version", b"1.2.3")]


def test_a_gap_has_its_server_its_cause_and_the_ranges_of_lost_events() -> None:
    ranges = (LostRange(RUN, int(EventType.AUDIT), 5, 120, 116), LostRange(RUN, int(EventType.RELAY), 2, 2, 1))
    event = own_events.gap(AUTHOR, NOW, Gap(server="s", number=3, cause="rotate", ranges=ranges, unnamed=4))
    assert params(event) == [
        (b"server", b"s"),
        (b"gap", b"3"),
        (b"cause", b"rotate"),
        (b"events", b"121"),
        (b"lost", b"00112233445566aa audit 5 120 116"),
        (b"lost", b"00112233445566aa relay 2 2 1"),
        (b"unnamed", b"4"),
    ]
    assert parse(with_identity(event)).severity == 3


def test_a_removal_has_numbers_causes_and_names() -> None:
    removed = own_events.RemovedFromArchive(2, 1000, 0, 2, ["fw1/2026-11-01", 'a"b/2026-11-01'], "2 days removed")
    event = own_events.removal(AUTHOR, NOW, removed)
    assert params(event) == [
        (b"days", b"2"),
        (b"octets", b"1000"),
        (b"byAge", b"0"),
        (b"bySize", b"2"),
        (b"removed", b"fw1/2026-11-01"),
        (b"removed", b'a"b/2026-11-01'),
    ]
    assert parse(with_identity(event)).severity == 5


def test_an_alarm_about_a_server_names_it() -> None:
    change = AlarmChange(
        Alarm("server-lost", "major", "nothing can be delivered to s", "s"), raised=True, since=1, at=1
    )
    assert params(own_events.alarm(AUTHOR, NOW, change))[-1] == (b"server", b"s")


@pytest.mark.parametrize(
    ("severity", "raised", "pri"),
    [("critical", True, 2), ("major", True, 3), ("minor", True, 4), ("info", True, 6), ("critical", False, 6)],
)
def test_an_alarm_has_the_severity_that_routers_give_it(severity: str, raised: bool, pri: int) -> None:
    change = AlarmChange(Alarm("spool-full", severity, 'hostile "text" ]'), raised, NOW, NOW)  # type: ignore[arg-type]  # the parameter's cases are the literal's
    event = own_events.alarm(AUTHOR, NOW, change)
    assert parse(with_identity(event)).severity == pri
    assert (b"state", b"add" if raised else b"clear") in params(event)
    assert (b"since", b"2024-03-06T16:34:22.344Z") in params(event)
