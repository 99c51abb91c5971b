"""`relay fleet`: what is wrong with whom, for people, for programs and for monitoring."""

import json
from pathlib import Path

from archive.messages import NOON_US, own
from archive.relay_events import AUTHOR, stamped
from click.testing import CliRunner
from harness.made_archive import MadeDay

from relay.archive.reading.originator_report import OriginatorReport, ReportedAlarm, SelfReport
from relay.cli.commands import root
from relay.events import own_events
from relay.events.own_events import HeartbeatReport
from relay.program.status.check_result import CheckState
from relay.program.status.fleet import Fleet, SilenceLimits, check_fleet, judged, read_fleet
from relay.program.watch.silence_watch import FORGOTTEN
from relay.system.disk import Disk
from relay.values.alarm import Alarm
from relay.values.configuration.expect_settings import ReceiverExpect

SECOND = 1_000_000
NOW = 2_000_000_000 * SECOND
LIMITS = SilenceLimits(200, 3600)


def relay(
    name: str, silent: float, *alarms: ReportedAlarm, disputed: bool = False, senders: dict[str, float] | None = None
) -> OriginatorReport:
    at = NOW - int(silent * SECOND)
    report = SelfReport(at, "1", {}, alarms, lost=2)
    owns = {sender: NOW - int(since * SECOND) for sender, since in (senders or {"SHA256:key": silent}).items()}
    return OriginatorReport(name, disputed, at, own_received=at, own_senders=owns, report=report)


def fleet(*reports: OriginatorReport, expected: tuple[ReceiverExpect, ...] = ()) -> Fleet:
    return Fleet("/archive", 5, NOW, [judged(each, NOW, expected, LIMITS) for each in reports], (), ())


def check(found: Fleet) -> tuple[CheckState, str]:
    result = check_fleet(found, LIMITS)
    return result.state, result.text


def test_a_fleet_without_faults_is_ok() -> None:
    found = fleet(relay("fw1", 59), OriginatorReport("printer", disputed=False, received=1))
    assert check(found) == (CheckState.OK, "2 originators, 1 relay")
    assert check_fleet(found, LIMITS).line.endswith(
        " | originators=2;;;0 relays=1;;;0 silent=0;;;0 oldest_heartbeat=59s;200;3600;0 disputed=0;;;0 alarms=0;;;0 "
        "lost=2;;;0 unverified=0;;;0 contested=0;;;0"
    )


def test_a_silent_relay_is_a_warning_after_a_long_time_critical_and_at_last_forgotten() -> None:
    assert check(fleet(relay("fw1", 200))) == (CheckState.WARNING, "fw1: no heartbeat for 200 s")
    assert check(fleet(relay("fw1", 3600)))[0] is CheckState.CRITICAL
    assert check(fleet(relay("fw1", FORGOTTEN)))[0] is CheckState.OK


def test_a_relay_looks_alive_without_a_word_only_by_heartbeats_of_one_verified_sender() -> None:
    behind_sshd = fleet(relay("fw1", 59, senders={"": 59}), relay("fw2", 59))
    assert check(behind_sshd) == (CheckState.OK, "2 originators, 2 relays (1 unverified)")
    claimed = fleet(relay("fw1", 1, ReportedAlarm("spool-full", "critical", "log1"), senders={"": 1}))
    assert check(claimed) == (CheckState.CRITICAL, "fw1 (unverified): alarm spool-full log1")
    beside_a_stranger = fleet(relay("fw1", 400, senders={"SHA256:key": 400, "": 1}))
    assert check(beside_a_stranger) == (CheckState.WARNING, "fw1: no heartbeat by SHA256:key for 400 s")
    contested = fleet(relay("fw1", 1, senders={"SHA256:key": 400, "SHA256:other": 1}))
    assert check(contested) == (CheckState.WARNING, "fw1: no heartbeat by SHA256:key for 400 s")
    assert "unverified=0;;;0 contested=1;;;0" in check_fleet(contested, LIMITS).line


def test_alarms_of_a_relay_count_by_their_severity_and_the_worst_comes_first() -> None:
    minor, critical = ReportedAlarm("certificate-ends", "minor", "a"), ReportedAlarm("spool-full", "critical", "")
    state, text = check(fleet(relay("fw1", 1, minor), relay("fw2", 1, critical)))
    assert state is CheckState.CRITICAL
    assert text.startswith("fw2: alarm spool-full")
    assert check(fleet(relay("fw1", 1, ReportedAlarm("x", "info", ""))))[0] is CheckState.OK
    assert check(fleet(relay("fw1", 1, ReportedAlarm("x", "of a later version", ""))))[0] is CheckState.WARNING


def test_an_expected_originator_is_judged_by_its_last_message_of_any_kind() -> None:
    expected = (ReceiverExpect(originator="pri*", within="10m"),)
    quiet = OriginatorReport("printer", disputed=False, received=NOW - 600 * SECOND)
    assert check(fleet(quiet, expected=expected)) == (
        CheckState.WARNING,
        "printer: nothing came for 600 s (limit: 10m)",
    )
    assert check(fleet(quiet._replace(name="other"), expected=expected))[0] is CheckState.OK


def test_a_disputed_name_is_a_warning() -> None:
    assert check(fleet(relay("~disputed/fw1", 1, disputed=True)))[0] is CheckState.WARNING


def test_a_line_names_the_worst_and_counts_the_rest() -> None:
    many = [relay(f"fw{number}", 300) for number in range(50)]
    state, text = check(fleet(*many, relay("worst", 4000)))
    assert (state, text.count("no heartbeat")) == (CheckState.CRITICAL, 10)
    assert text.startswith("worst: ")
    assert text.endswith("; and 41 more")


def archive(folder: Path) -> Path:
    """fw1 with a heartbeat and an alarm, 8 s late; the receiver's own heartbeats until 10 minutes later; a printer."""
    alarm = Alarm("server-lost", "major", "text", "log1")
    for name, minutes, alarms in (("fw1", 0, [alarm]), ("receiver", 10, [])):
        day = MadeDay(name, "2024-03-06")
        at = NOON_US + minutes * 60 * SECOND
        condition = HeartbeatReport({}, b"\1", {"log1": 3}, "1.2.3", alarms)
        day.extent(at + 8 * SECOND, [stamped(own_events.heartbeat(AUTHOR, at, condition), 1)], identity="SHA256:key")
        day.save(folder)
    day = MadeDay("printer", "2024-03-06")
    day.extent(NOON_US, [b"no time and no name"])
    day.save(folder)
    (folder / ".relay").mkdir()
    return folder


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(root, ["fleet", *words])
    return result.exit_code, result.output


def test_without_a_receiver_silence_is_measured_at_the_newest_receipt(tmp_path: Path) -> None:
    found = read_fleet(Disk(), str(archive(tmp_path)), NOW)
    assert found.pid is None
    assert found.now == NOON_US + 608 * SECOND
    assert [member.report.name for member in found.members if member.is_silent] == ["fw1"]


def test_the_table_has_a_line_for_each_originator(tmp_path: Path) -> None:
    code, output = run(str(archive(tmp_path)))
    assert code == 0
    lines = [line.split() for line in output.splitlines()]
    assert lines[0][:4] == ["ORIGINATOR", "LAST", "MESSAGE", "LAG"]
    assert " ".join(lines[1]) == (
        "fw1 2024-03-06T12:00:08Z 8s 10m ago 3 0 1.2.3 192.0.2.1 SHA256:key "
        "no heartbeat for 600 s; alarm server-lost log1"
    )
    assert lines[2] == ["printer", "2024-03-06T12:00:00Z", "-", "-", "-", "-", "-", "192.0.2.1", "ok"]
    assert output.splitlines()[-1] == f"{tmp_path}: 3 originators, 1 silent; no receiver runs"


def test_json_has_the_schema_and_every_field(tmp_path: Path) -> None:
    code, output = run("--json", str(archive(tmp_path)))
    answer = json.loads(output)
    assert (code, answer["schema"], answer["pid"]) == (0, "relay.fleet/1", None)
    fw1, printer, _ = answer["originators"]
    assert fw1 == {
        "name": "fw1",
        "state": "warning",
        "faults": ["fw1: no heartbeat for 600 s", "fw1: alarm server-lost log1"],
        "silent": True,
        "disputed": False,
        "received": NOON_US + 8 * SECOND,
        "event_time": NOON_US,
        "lag": 8,
        "peer": "192.0.2.1",
        "identity": "SHA256:key",
        "via": "tcp://0.0.0.0:514 syslog",
        "heartbeat": NOON_US + 8 * SECOND,
        "evidence": "verified",
        "version": "1.2.3",
        "backlog": {"log1": 3},
        "alarms": [{"name": "server-lost", "severity": "major", "about": "log1"}],
        "lost": 0,
        "missing": 0,
    }
    assert (printer["state"], printer["heartbeat"], printer["lag"]) == ("ok", 0, None)


def test_check_is_a_plugin_and_a_folder_that_is_not_an_archive_is_unknown(tmp_path: Path) -> None:
    code, output = run("--check", str(archive(tmp_path)))
    assert code == 1
    assert output.startswith("WARNING - fw1: no heartbeat for 600 s; fw1: alarm server-lost log1 | originators=3;")
    assert run("--check", "--critical", "5m", str(tmp_path))[0] == 2
    assert run("--check", "--warning", "1h", "--critical", "1d", str(tmp_path))[0] == 1, "the alarm"
    code, output = run("--check", str(tmp_path / "none"))
    assert (code, output.count("\n")) == (3, 1)
    assert output.startswith("UNKNOWN - ")


def test_an_originator_that_the_configuration_expects_and_the_archive_does_not_have(tmp_path: Path) -> None:
    configuration = tmp_path / "relay.toml"
    folder = archive(tmp_path / "archive")
    configuration.write_text(
        f'[receiver]\narchive = "{folder}"\n[[receiver.expect]]\noriginator = ["fw9", "print*"]\nwithin = "1h"\n'
    )
    code, output = run("--check", "-c", str(configuration))
    assert code == 1
    assert "there is no originator fw9, which is expected" in output
    assert "print" not in output


def test_an_archive_with_odd_names_is_shown_as_it_is(tmp_path: Path) -> None:
    day = MadeDay("\x1b[31mfw", "2024-03-06")
    day.extent(NOON_US, [own(1)])
    day.save(archive(tmp_path))
    assert "%1B%5B31mfw " in run(str(tmp_path))[1]
