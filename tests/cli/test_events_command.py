"""`relay events` as a user calls it: a child process, on spools and archives that the real parts made."""

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from harness.openssh import Sshd
from harness.ports import free_port
from harness.relay import PROGRAM, RELAY, SEED, Router
from harness.terminal import run_on_a_terminal
from harness.waiting import wait_until
from program.history.spools import event, fill, filled, foreign, opened, segments

from relay.cli import main
from relay.values.event import EventType

HOSTILE = b"<13>1 2024-03-06T12:00:09Z evil app - M - \x1b]0;owned\x07\x1b[2Jgone \xe2\x80\xae\xff\r\nsecond\x9b1m"


def relay(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RELAY, "events", *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def lines(folder: Path, *arguments: str) -> list[str]:
    done = relay("--state", str(folder), *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def objects(*arguments: str) -> list[dict[str, Any]]:
    done = relay(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state directory with events of several types, routers and times."""
    filled(
        tmp_path,
        [event("type=LOGIN msg=audit(1709726400.000:7): pid=1 one\ntype=SYSCALL msg=audit(1709726400.000:7): two")],
        [event("user logged in", EventType.ADMIN, second=60, msgid="ADMIN"), event("port scan", second=61)],
        [event("peer down", EventType.ALARM, second=120, router="r2", host="combo2", msgid="ALARM")],
    )
    return tmp_path


def test_an_event_is_a_line_with_time_type_msgid_and_first_record(folder: Path) -> None:
    assert lines(folder) == [
        "2024-03-06T12:00:00.000Z  audit       LOGIN       pid=1 one  (+1)",
        "2024-03-06T12:01:00.000Z  admin       ADMIN       user logged in",
        "2024-03-06T12:01:01.000Z  audit       LOGIN       port scan",
        "2024-03-06T12:02:00.000Z  alarm       ALARM       peer down",
    ]


@pytest.mark.parametrize("option", ["--full", "-v"])
def test_with_full_every_record_is_a_line(folder: Path, option: str) -> None:
    assert lines(folder, "--limit", "4", option)[:3] == [
        "2024-03-06T12:00:00.000Z  audit  LOGIN",
        "    type=LOGIN msg=audit(1709726400.000:7): pid=1 one",
        "    type=SYSCALL msg=audit(1709726400.000:7): two",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--type", "admin"], ["in"]),
        (["--type", "admin", "--type", "alarm"], ["in", "down"]),
        (["--router", "r2"], ["down"]),
        (["--router", "combo2"], ["down"]),
        (["--from", "2024-03-06T12:01:01Z"], ["scan", "down"]),
        (["--from", "2024-03-06"], ["(+1)", "in", "scan", "down"]),
        (["--from", "2024-03-07"], []),
        (["--from", "-1h"], []),
        (["--to", "-1h"], ["(+1)", "in", "scan", "down"]),
        (["--to", "2024-03-06"], ["(+1)", "in", "scan", "down"]),
        (["--to", "2024-03-06T13:01:00+01:00"], ["(+1)", "in"]),
        (["--to", "2024-03-05"], []),
        (["--grep", "port"], ["scan"]),
        (["--grep", "Port"], []),
        (["--grep", "SYSCALL"], ["(+1)"]),
        (["--from", "2024-03-06 12:01:01"], ["scan", "down"]),
        (["--to", "2024-03-06 12:01"], ["(+1)", "in"]),
        (["--from", "yesterday"], []),
        (["--to", "11:20"], ["(+1)", "in", "scan", "down"]),
        (["--router", "r1", "--router", "r2", "--type", "alarm"], ["down"]),
        (["--router", "r2", "--router", "combo1"], ["(+1)", "in", "scan", "down"]),
        (["--grep", "port", "--grep", "peer"], ["scan", "down"]),
        (["--msgid", "ADMIN"], ["in"]),
        (["--msgid", "A*", "--msgid", "LOG??"], ["(+1)", "in", "scan", "down"]),
        (["--msgid", "A*", "--type", "alarm"], ["down"]),
        (["--field", "router=r2"], ["down"]),
        (["--field", "router=*2", "--field", "router=r1"], ["(+1)", "in", "scan", "down"]),
        (["--field", "router=r?", "--field", "type=al*"], ["down"]),
        (["--severity", "notice"], ["(+1)", "in", "scan", "down"]),
        (["--severity", "warning"], []),
        (["--severity", "Critical", "--severity", "informational"], ["(+1)", "in", "scan", "down"]),
        (["--failed"], []),
        (["--limit", "2"], ["scan", "down"]),
        (["--limit", "1", "--type", "audit"], ["scan"]),
        (["--limit", "0"], []),
        (["--regex", "(?i)PORT|peer"], ["scan", "down"]),
        (["--reverse", "--limit", "2"], ["down", "scan"]),
    ],
)
def test_each_option_selects_events(
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    utc: None,
    arguments: list[str],
    expected: list[str],
) -> None:
    """A repeated option widens the choice; different options narrow it."""
    del utc
    assert main(["events", "--state", str(folder), *arguments]) == 0
    assert [line.rpartition(" ")[2] for line in capfd.readouterr().out.splitlines()] == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--from", "last week"], '"last week" is not a time; write it as "11:20"'),
        (["--type", "audits"], 'there is no type "audits"; did you mean "audit"?'),
        (["--type", "x"], "there are admin, audit, alarm"),
        (["--severity", "warnings"], 'there is no severity "warnings"; did you mean "warning"?'),
        (["--field", "acct"], '"acct" must be NAME=GLOB'),
        (["--field", "acct=[a*"], '"[" needs characters and a "]" behind it'),
        (["--limit", "-1"], "--limit"),
        (["--follow", "--to", "now"], "leave --to and --received-to out"),
        (["--archive", "/x"], "name one"),
        (["--peer", "192.0.2.0/24"], "ask for what only an archive keeps; leave --state out"),
        (["--peer", "fw1"], '"fw1" is not an address or a network'),
        (["--regex", "(a"], '"(a" is not a regular expression: missing )'),
        (["--reverse"], "name how many events --reverse shows: --limit N"),
        (["--reverse", "--follow"], "leave --follow and --bookmark out"),
        (["--bookmark", "/x", "--limit", "1"], "leave --limit out"),
    ],
)
def test_a_senseless_filter_is_a_usage_error(folder: Path, arguments: list[str], expected: str) -> None:
    done = relay("--state", str(folder), *arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_times_without_a_zone_are_local(folder: Path) -> None:
    """UTC+5 all year: noon UTC is 17:00 there."""
    begun = ("--from", "2024-03-06 17:01:01", "--to", "2024-03-06T17:02")
    done = relay("--state", str(folder), *begun, env={**os.environ, "TZ": "Asia/Tashkent"})
    assert [line.rpartition(" ")[2] for line in done.stdout.splitlines()] == ["scan", "down"]


def test_output_to_a_full_disk_is_74(folder: Path) -> None:
    """`relay events` writes octets itself, not by click."""
    argv = ["sh", "-c", '"$@" >/dev/full', "sh", *RELAY, "events", "--state", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 74
    assert done.stderr.startswith("relay: standard output: cannot be written: No space left on device")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--router", "r1.example"], 'router "r1.example": no event here has it; there are combo1, combo2, r1, r2'),
        (["--router", "r1", "--router", "Combo"], 'router "Combo": no event here has it; did you mean "combo2"?'),
        (["--router", "elsewhere", "--from", "-1h"], "there are combo1, combo2, r1, r2"),
        (["--msgid", "LOGON"], 'MSGID "LOGON": no event here has it; did you mean "LOGIN"?'),
        (["--msgid", "X*"], 'MSGID "X*": no event here has it; there are ADMIN, ALARM, LOGIN'),
        (["--field", "routr=r1"], 'parameter "routr": no event here has it; did you mean "router"?'),
    ],
)
def test_a_name_that_no_event_has_is_an_error_with_the_nearest_one(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main(["events", "--state", str(folder), *arguments]) == 66
    assert expected in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [["--router", "r2", "--from", "-1h"], ["--msgid", "ALARM", "--to", "2024-01-01"]])
def test_a_name_that_only_other_events_have_is_not_an_error(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["events", "--state", str(folder), *arguments]) == 0
    assert capfd.readouterr() == ("", "")


def test_a_missing_folder_is_an_error_with_the_nearest_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "archive").mkdir()
    for option in ("--archive", "--state"):
        assert main(["events", option, str(tmp_path / "archiv")]) == 66
        assert f'there is no such folder; did you mean "{tmp_path}/archive"?' in capfd.readouterr().err
    assert main(["events", "--archive", str(tmp_path / "archive")]) == 66
    assert "it is not an archive: no folder in it has a day's log or ledger" in capfd.readouterr().err


def test_events_are_shown_in_the_order_of_their_arrival(tmp_path: Path) -> None:
    """Not by their own time stamps; `relay events --help` documents the order."""
    filled(tmp_path, [event("late", second=60)], [event("early")])
    assert [line.rpartition(" ")[2] for line in lines(tmp_path)] == ["late", "early"]
    assert [line.rpartition(" ")[2] for line in lines(tmp_path, "--limit", "1")] == ["early"]
    assert "in the order of arrival" in " ".join(relay("--help").stdout.split())


def test_without_state_the_configurations_state_directory_is_read(folder: Path, tmp_path: Path) -> None:
    configuration = tmp_path / "relay.toml"
    configuration.write_text(f'[relay]\nstate-directory = "{folder}"\n')
    done = relay("-c", str(configuration), "--limit", "1")
    assert done.stdout.endswith("peer down\n")
    assert relay("--state", str(tmp_path / "none")).returncode == 66


def test_an_object_has_every_part_of_the_message(folder: Path) -> None:
    first = objects("--state", str(folder), "--limit", "4")[0]
    assert first == {
        "schema": "relay.events/2",
        "time": "2024-03-06T12:00:00.000Z",
        "hostname": "combo1",
        "app_name": "auditd",
        "procid": None,
        "msgid": "LOGIN",
        "facility": 13,
        "severity": 5,
        "type": "audit",
        "router": "r1",
        "node": "n1",
        "run": "5f" * 8,
        "number": 1,
        "part": 1,
        "parts": 1,
        "structured_data": {
            "128T": {"relayRun": "5f" * 8, "relaySeq": "1", "type": "audit", "router": "r1", "node": "n1"}
        },
        "message": "type=LOGIN msg=audit(1709726400.000:7): pid=1 one\ntype=SYSCALL msg=audit(1709726400.000:7): two",
        "message_base64": None,
    }


def test_octets_that_are_not_utf8_are_exact_in_base64(tmp_path: Path) -> None:
    twice = b'<13>1 2024-03-06T12:00:00+02:00 h - - - [a@1 b="1" b="2"][c@1 d="\\"]"] \xef\xbb\xbftext'
    filled(tmp_path, [foreign(HOSTILE), foreign(b"no syslog \xfe"), foreign(twice.replace(b'"]"]', b'"\\]"]'))])
    hostile, wild, doubled = objects("--state", str(tmp_path))
    assert hostile["message"] == "\x1b]0;owned\x07\x1b[2Jgone \u202e\\xff\r\nsecond\\x9b1m"
    assert base64.b64decode(hostile["message_base64"]) == HOSTILE.partition(b" - M - ")[2]
    assert (wild["message"], wild["time"], wild["hostname"], wild["type"]) == ("no syslog \\xfe", None, None, "log")
    assert base64.b64decode(wild["message_base64"]) == b"no syslog \xfe"
    assert doubled["structured_data"] == {"a@1": {"b": ["1", "2"]}, "c@1": {"d": '"]'}}
    assert (doubled["time"], doubled["message"]) == ("2024-03-06T10:00:00.000Z", "\ufefftext")
    assert (doubled["number"], doubled["router"]) == (None, None)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has UTC for its local time."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def on_a_terminal(columns: int, *arguments: str) -> str:
    """Return what `relay events` writes to a terminal of that width."""
    environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}}
    argv = [*RELAY, "events", *arguments]
    code, text = run_on_a_terminal(argv, columns=columns, environment=environment)
    assert code == 0
    return text


def test_a_hostile_message_cannot_control_a_terminal(tmp_path: Path) -> None:
    filled(tmp_path, [foreign(HOSTILE), foreign(b"<13>1 - \x1b[31mh a - - - \x1b[2J"), event("plain\x1b[0m")])
    for arguments in ([], ["--full"]):
        shown = on_a_terminal(200, "--state", str(tmp_path), *arguments)
        assert "\\x1b]0;owned\\x07\\x1b[2Jgone \\u202e\\xff\\r" in shown
        assert all(character.isprintable() for character in shown.replace("\n", ""))


def test_on_a_terminal_lines_are_cut_to_its_width(tmp_path: Path) -> None:
    filled(tmp_path, [event("x" * 500), event("世界" * 100 + "\nmore")])
    first, second = on_a_terminal(80, "--state", str(tmp_path)).splitlines()
    assert (len(first), first[-1]) == (80, "…")
    assert second.endswith("…  (+1)")
    wide = sum(2 if character in "世界" else 1 for character in second)
    assert 79 <= wide <= 80


def test_a_damaged_block_is_reported_and_the_exit_code_is_65(tmp_path: Path) -> None:
    filled(tmp_path, *([event(f"{'x' * 100} {number}")] for number in range(5)))
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    place = data.index(b"x 2")
    data[place] ^= 1
    path.write_bytes(data)
    done = relay("--state", str(tmp_path))
    assert done.returncode == 65
    assert [line.rpartition(" ")[2] for line in done.stdout.splitlines()] == ["0", "1", "3", "4"]
    assert done.stderr.splitlines()[0].startswith(f"relay: {path}: offset ")
    assert done.stderr.splitlines()[1] == (
        "relay: event history: 1 place could not be read; the events there are left out; "
        f"see `{PROGRAM} spool verify --state {tmp_path}`"
    )


class Follower:
    """`relay events --follow` in the background."""

    def __init__(self, output: Path, *arguments: str) -> None:
        self._output = output
        with output.open("wb") as file:
            self.child = subprocess.Popen(
                [*RELAY, "events", "--follow", *arguments], stdout=file, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait(60)

    def wait_for(self, *endings: str) -> None:
        def shown() -> list[str]:
            return [line.rpartition(" ")[2] for line in self._output.read_text().splitlines()]

        wait_until(lambda: shown() == list(endings), 60, lambda: f"{endings}, not {shown()}")


def test_following_shows_each_event_once_and_exits_with_0_on_an_interrupt(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as store:
        fill(store, ([event(str(number))] for number in range(15)))
        with Follower(tmp_path / "out", "--state", str(tmp_path / "state")) as follower:
            begun = [str(number) for number in range(5, 15)]
            follower.wait_for(*begun)
            fill(store, [[event("next")], [event("and next", EventType.TRAFFIC)]], committed_second=100)
            follower.wait_for(*begun, "next", "next")
            follower.child.send_signal(signal.SIGINT)
            assert follower.child.wait(60) == 0
            follower.wait_for(*begun, "next", "next")


def test_following_a_router_that_no_event_has_yet_is_a_warning(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as store:
        fill(store, [[event("one")]])
        with Follower(tmp_path / "out", "--state", str(tmp_path / "state"), "--router", "r9") as follower:
            warning = 'relay: router "r9": no event here has it; there are combo1, r1'
            follower.wait_for("r1")
            fill(store, [[event("two", router="r9")]], committed_second=100)
            follower.wait_for("r1", "two")
    assert (tmp_path / "out").read_text().startswith(f"{warning}\n")


def test_a_reader_that_closes_the_pipe_early_is_not_a_failure(tmp_path: Path) -> None:
    filled(tmp_path, [event("x" * 1000) for _ in range(1000)])
    command = f"{' '.join(RELAY)} events --state {tmp_path} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[1:] == ["0"]
    assert done.stderr == ""


def test_the_history_of_a_running_relay_grows(tmp_path: Path) -> None:
    """No collector listens behind its SSH session; relay holds the spool open and writes to it."""
    with Sshd() as sshd:
        router = Router(tmp_path, sshd, free_port())
        router.audit_log.write_bytes(SEED.read_bytes())
        arguments = ["-c", str(router.configuration), "--type", "audit"]
        expected = sorted(SEED.read_text().splitlines())

        def records() -> list[str]:
            done = relay(*arguments, "--json")
            if done.returncode == 66:  # before it has begun
                return []
            messages = [json.loads(line)["message"] for line in done.stdout.splitlines()]
            return sorted(record for message in messages for record in message.split("\n"))

        with router.start() as running:
            wait_until(lambda: records() == expected, 60, lambda: f"the seed's records\n{running.log}")
            found = objects(*arguments)
            assert [each["number"] for each in found] == list(range(1, len(found) + 1))
            assert 0 < len(objects(*arguments, "--grep", "USER_LOGIN")) < len(found)
