"""The table of alarms: for each condition a snapshot with it, and the alarms that the table wants then."""

import datetime as dt
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import NoInputError, PermissionRefusedError, StorageError, UnavailableError, full_error
from relay.program.alarms import (
    CONDITIONS,
    LOST_SECONDS,
    MOST_SILENT,
    DiskSpace,
    ServerState,
    Snapshot,
    alarms_wanted,
    listener_losses,
)
from relay.program.watch.all_users import TEXTS
from relay.program.watch.audit_trail.observation import AuditObservation
from relay.program.watch.audit_trail.own_records import LIMIT
from relay.program.watch.certificate_watch import CertificateExpiry
from relay.program.watch.silence_watch import Silence, Silences
from relay.transport.tls.certificate import SOON
from relay.values.alarm import Alarm

MIB = 1024**2
TODAY = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
REFUSED = UnavailableError("b", "connection refused")


def space(
    *, free: int = 10_000 * MIB, held: int = 0, max_size: int = 2048 * MIB, space_left: int = 100 * MIB
) -> DiskSpace:
    return DiskSpace(free=free, held=held, max_size=max_size, space_left=space_left)


def snapshot(**seen: Any) -> Snapshot:
    """A machine where all is well, except for what is given."""
    return replace(Snapshot(space=space(), today=TODAY), **seen)


def raised(*alarms: Alarm) -> dict[tuple[str, str], str]:
    return {(each.name, each.about): each.text for each in alarms}


def wanted(**seen: Any) -> list[tuple[str, str]]:
    """The name and severity of each alarm."""
    return [(each.name, each.severity) for each in alarms_wanted(snapshot(**seen))]


def text(**seen: Any) -> str:
    """The text of the only alarm; empty without one."""
    alarms = alarms_wanted(snapshot(**seen))
    assert len(alarms) <= 1
    return alarms[0].text if alarms else ""


def test_where_all_is_well_no_alarm_is_wanted() -> None:
    seen = snapshot(audit_trail=AuditObservation(enabled=True, daemon=True), servers=[ServerState(name="b", proofs=1)])
    assert alarms_wanted(seen) == []


@pytest.mark.parametrize(
    ("seen", "alarm", "words"),
    [
        (
            {"intake_error": full_error("spool", "it is full", "")},
            ("spool-full", "critical"),
            "wait for space: spool: ",
        ),
        (
            {"intake_error": StorageError("spool", "I/O error")},
            ("disk-failing", "critical"),
            "written: spool: I/O error",
        ),
        (
            {"intake_error": full_error("spool", "it is full", ""), "waiting": "senders"},
            ("spool-full", "critical"),
            "the senders wait for space: spool: ",
        ),
        ({"refusing": True}, ("spool-ignoring", "critical"), "new events that no source can deliver again are refused"),
        ({"rotating": True}, ("spool-rotating", "critical"), "the oldest events are deleted undelivered"),
        (
            {"archive_fault": StorageError("/a/fw1/d.log", "changed", "move it")},
            ("archive-not-kept", "minor"),
            "move it",
        ),
        ({"retention_cut_short": True}, ("retention-cut-short", "minor"), "raise max-size in [spool]"),
        ({"halt_failure": "shutdown: exit 1"}, ("halt-failed", "critical"), "failed: shutdown: exit 1"),
        ({"audit_trail": AuditObservation(enabled=False)}, ("auditd-down", "critical"), "auditctl -e 1"),
        ({"audit_trail": AuditObservation(daemon=False)}, ("auditd-down", "critical"), "systemctl start auditd"),
        ({"audit_trail": AuditObservation(unit="failed")}, ("auditd-down", "critical"), "systemctl status auditd"),
        ({"audit_trail": AuditObservation(unit="inactive")}, ("auditd-down", "critical"), "is not running"),
        (
            {"audit_trail": AuditObservation(records_missing=True)},
            ("auditd-down", "critical"),
            "no audit records arrive",
        ),
        ({"own_events_per_minute": LIMIT}, ("audit-loop", "major"), "load deploy/relay.rules"),
    ],
)
def test_each_condition_of_the_machine_is_an_alarm_with_its_cause_or_remedy(
    seen: dict[str, Any], alarm: tuple[str, str], words: str
) -> None:
    assert wanted(**seen) == [alarm]
    assert words in text(**seen)


def test_a_few_own_events_are_not_a_loop() -> None:
    assert wanted(own_events_per_minute=LIMIT - 1) == []


def test_every_message_to_all_users_belongs_to_an_alarm_of_the_table_or_to_a_halt() -> None:
    names = {condition.name for condition in CONDITIONS}
    others = {name for name in TEXTS if not any(name.startswith(each) for each in names)}
    assert others == {"halt-asked", "halt-asked-network"}


# --- Space ---


def test_less_free_disk_than_space_left_is_an_alarm() -> None:
    assert wanted(space=space(free=100 * MIB)) == []
    assert wanted(space=space(free=100 * MIB - 1)) == [("disk-space-left", "major")]
    assert text(space=space(free=100 * MIB - 1)).startswith(
        "less than 100MiB (space-left) is free on the disk of the state directory; "
    )


def test_less_than_space_left_within_max_size_is_an_alarm() -> None:
    assert wanted(space=space(held=1948 * MIB)) == []
    assert text(space=space(held=1948 * MIB + 1)).startswith(
        "less than 100MiB is left in the spool's max-size of 2GiB; "
    )


def test_it_stays_until_a_tenth_more_is_free() -> None:
    alarms = alarms_wanted(snapshot(space=space(free=99 * MIB)))
    assert alarms_wanted(snapshot(space=space(free=109 * MIB), raised=raised(*alarms))) == alarms
    assert wanted(space=space(free=110 * MIB), raised=raised(*alarms)) == []


def test_measured_numbers_do_not_change_the_text() -> None:
    assert text(space=space(free=99 * MIB)) == text(space=space(free=1))


def test_the_text_names_what_is_short_now() -> None:
    on_disk = alarms_wanted(snapshot(space=space(free=1)))
    in_spool = alarms_wanted(snapshot(space=space(free=110 * MIB, held=2000 * MIB), raised=raised(*on_disk)))
    assert "max-size" in in_spool[0].text
    # The disk was enough for a while: a little more than its limit does not raise the alarm of the disk again.
    before = raised(*in_spool)
    assert alarms_wanted(snapshot(space=space(free=105 * MIB, held=2000 * MIB), raised=before)) == in_spool
    assert wanted(space=space(free=105 * MIB, held=0), raised=before) == []


def test_a_small_spool_warns_at_its_last_tenth() -> None:
    assert wanted(space=space(held=36 * MIB, max_size=40 * MIB)) == []
    assert wanted(space=space(held=37 * MIB, max_size=40 * MIB)) == [("disk-space-left", "major")]


def test_without_space_left_there_is_no_such_alarm() -> None:
    assert wanted(space=space(free=0, held=2048 * MIB, space_left=0)) == []


sizes = st.integers(min_value=0, max_value=1 << 50)


@given(sizes, sizes, sizes, sizes)
def test_an_alarm_that_was_just_raised_is_never_cleared_by_the_same_space(
    free: int, held: int, max_size: int, space_left: int
) -> None:
    same = DiskSpace(free=free, held=held, max_size=max_size, space_left=space_left)
    alarms = alarms_wanted(snapshot(space=same))
    assert alarms_wanted(snapshot(space=same, raised=raised(*alarms))) == alarms


# --- Certificates ---


def expiry(days: float, about: str = "a", name: str = "certificate /own.pem (`certificate`)") -> CertificateExpiry:
    return CertificateExpiry(about, name, TODAY + dt.timedelta(days=days))


@pytest.mark.parametrize(
    ("left", "alarms"),
    [
        (SOON, []),
        (SOON - 0.01, [("minor", "certificate /own.pem (`certificate`) expires on 2026-12-22; renew it")]),
        (0.001, [("minor", "certificate /own.pem (`certificate`) expires on 2026-11-22; renew it")]),
        (0, [("major", "certificate /own.pem (`certificate`) expired on 2026-11-22; renew it")]),
        (-400, [("major", "certificate /own.pem (`certificate`) expired on 2025-10-18; renew it")]),
    ],
)
def test_a_certificate_that_expires_soon_is_an_alarm_and_an_expired_one_a_more_severe_one(
    left: float, alarms: list[tuple[str, str]]
) -> None:
    found = alarms_wanted(snapshot(certificates=[expiry(left)]))
    assert [(each.severity, each.text) for each in found] == alarms
    assert all((each.name, each.about) == ("certificate-ends", "a") for each in found)


def test_of_each_server_the_first_certificate_to_expire_is_named() -> None:
    certificates = [expiry(9), expiry(5, name="ca"), expiry(7, "b"), expiry(-1, "c"), expiry(3, "c")]
    found = {each.about: (each.severity, each.text) for each in alarms_wanted(snapshot(certificates=certificates))}
    assert found["a"] == ("minor", "ca expires on 2026-11-27; renew it")
    assert found["b"][1].endswith("expires on 2026-11-29; renew it")
    assert found["c"][0] == "major"
    assert len(found) == 3


# --- Servers and listeners ---


def server(**state: Any) -> ServerState:
    return replace(ServerState(name="b", proofs=1), **state)


def test_a_server_is_lost_after_three_seconds_and_its_alarm_has_the_cause() -> None:
    assert wanted(servers=[server(lost_seconds=LOST_SECONDS - 0.1, cause=REFUSED)]) == []
    lost = server(lost_seconds=LOST_SECONDS, cause=REFUSED)
    assert alarms_wanted(snapshot(servers=[lost])) == [
        Alarm("server-lost", "major", "nothing can be delivered to b: b: connection refused", "b")
    ]


def test_a_long_cause_is_shortened() -> None:
    cause = PermissionRefusedError("SSH server s", "x" * 5000)
    assert len(text(servers=[server(lost_seconds=LOST_SECONDS, cause=cause)])) < 500


def test_an_alarm_from_before_the_start_keeps_its_text_until_something_is_proven() -> None:
    former = Alarm("server-lost", "major", "a text of an earlier version", "b")
    assert alarms_wanted(snapshot(servers=[server(proofs=0)], raised=raised(former))) == [former]
    assert alarms_wanted(snapshot(servers=[server(proofs=1)], raised=raised(former))) == []


def test_a_server_that_is_lost_beyond_its_timeout_is_an_alarm_of_its_own() -> None:
    lost = server(lost_seconds=600, cause=REFUSED, network_failure_timeout=600)
    assert wanted(servers=[lost]) == [("server-lost", "major"), ("network-failure", "critical")]
    assert wanted(servers=[server(lost_seconds=1e9, cause=REFUSED)]) == [("server-lost", "major")]


def test_only_an_error_that_no_retry_repairs_needs_a_repair() -> None:
    missing = NoInputError("private key k", "there is no such file")
    found = alarms_wanted(snapshot(faults={"port-forwarding p": missing, "SSH end": REFUSED, "TLS listener": None}))
    assert [(each.name, each.about) for each in found] == [("repair-needed", "port-forwarding p")]
    assert found[0].text == "port-forwarding p waits for a repair: private key k: there is no such file"


# --- Originators ---


def silence(about: str, *, settled: bool = True) -> Silence:
    return Silence(about, f"{about} is silent", settled)


def silent(**seen: Any) -> list[str]:
    return [each.about for each in alarms_wanted(snapshot(**seen)) if each.name == "originator-silent"]


def test_each_silent_originator_is_an_alarm_and_each_pattern_without_one() -> None:
    seen = Silences([silence("fw1"), silence("fw2")], [silence("db*")], recalled=True)
    assert wanted(silences=seen) == [("originator-silent", "major")] * 2 + [("originator-missing", "major")]


def test_a_new_silence_counts_after_senders_had_time_to_come_back() -> None:
    seen = Silences([silence("fw1", settled=False), silence("fw2", settled=False)], recalled=True)
    known = raised(Alarm("originator-silent", "major", "fw2 is silent", "fw2"))
    assert silent(silences=seen) == []
    assert silent(silences=seen, raised=known) == ["fw2"]


def test_while_the_archive_is_read_after_a_start_the_alarms_from_before_it_stay() -> None:
    known = Alarm("originator-silent", "major", "a text", "fw2")
    assert alarms_wanted(snapshot(raised=raised(known))) == [known]


def test_beyond_the_ceiling_one_alarm_is_about_all_other_silent_originators() -> None:
    many = [silence(f"fw{number}") for number in range(100)]
    known = raised(*(Alarm("originator-silent", "major", "", f"fw{number}") for number in (50, 60)))
    found = silent(silences=Silences(many, recalled=True), raised=known)
    assert len(found) == MOST_SILENT + 1
    assert found[:2] == ["fw50", "fw60"], "an alarm that is raised stays"
    assert found[-1] == ""
    assert silent(silences=Silences(many[:MOST_SILENT], recalled=True)) == [f"fw{n}" for n in range(MOST_SILENT)]


@pytest.mark.parametrize(
    "name",
    [
        "datagrams-dropped",
        "connections-refused",
        "name-disputed",
        "too-many-originators",
        "messages-differ",
        "archive-changed",
        "archive-aside",
    ],
)
def test_what_is_lost_or_disturbed_at_the_receiver_is_an_alarm(name: str) -> None:
    aside = ["fw1", "fw2", "fw3", "fw4"] if name == "archive-aside" else []
    seen = snapshot(losing=frozenset({name}), silences=Silences(aside=aside))
    (found,) = alarms_wanted(seen)
    assert (found.name, found.severity, found.about) == (name, "major", "")
    assert ("fw1, fw2, fw3 and others" in found.text) == bool(aside)


def test_the_counters_of_listeners_are_counted_for_their_alarms() -> None:
    counters = {"dropped": 3, "refused_connections": 1, "refused_per_address": 2, "refused": 9, "slow": 5}
    assert listener_losses(counters) == {"datagrams-dropped": 3, "connections-refused": 3}


def test_the_manual_has_every_alarm_with_its_severity() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (critical|major|minor|info) \|", page, re.MULTILINE)
    assert sorted(rows) == sorted((condition.name, condition.severity) for condition in CONDITIONS)
