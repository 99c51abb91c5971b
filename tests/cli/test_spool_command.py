"""`relay spool show`, `verify` and `cat` as a user calls them: child processes on spools that the real store made."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.relay import PROGRAM, RELAY, octet_counted
from harness.terminal import run_on_a_terminal
from program.history.spools import event, fill, filled, foreign, opened, segments

from relay.spool.cursor import Cursor
from relay.spool.segments import segment
from relay.values.event import Batch, EventType
from relay.values.provenance import Provenance, ReceiptMark

HOSTILE = b"<13>1 - h a - - - \x1b[2Jred\r\nsecond\xff"


def relay(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*RELAY, "spool", *arguments], capture_output=True, timeout=60, check=False)


def run_spool(*arguments: str) -> tuple[int, str, str]:
    done = relay(*arguments)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def answer(*arguments: str) -> dict[str, Any]:
    found = json.loads(relay(*arguments, "--json").stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Two segments of 100 events each a block, one traffic event, and two destinations."""
    folder = tmp_path / "state"
    with opened(folder) as store:
        fill(store, ([event(f"{'x' * 600} {number}", second=number)] for number in range(100)))
        fill(store, [[event("flow", EventType.TRAFFIC, second=100)]], committed_second=100)
        store.move_cursor("far", Cursor(retained=101, transient=2))
        store.move_cursor("slow", Cursor(retained=40, transient=1))
    assert len(segments(folder)) == 2
    return folder


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


# --- show ---


def test_show_prints_segments_blocks_messages_times_and_cursors(state: Path) -> None:
    second = segment.first_of(segments(state)[1].name)
    code, shown, errors = run_spool("show", "--state", str(state))
    assert (code, errors) == (0, "")
    lines = shown.splitlines()
    assert lines[0] == f"{state}: not running"
    assert lines[1] == "retained: 2 segments, 100 messages, 88.7 KB"
    assert lines[2].startswith(
        f"  blocks 1 to {second - 1}: {second - 1} messages (audit {second - 1}), 64.7 KB, 2024-03-"
    )
    assert lines[3].endswith(" to 2024-03-06T12:01:39Z")
    assert lines[4:] == [
        "  cursor of far: the end",
        "  cursor of slow: block 40, 61 blocks before the end",
        "transient: 1 segment, 1 message, 289 B",
        "  block 1: 1 message (traffic 1), 289 B, 2024-03-06T12:01:40Z to 2024-03-06T12:01:40Z",
        "  cursor of far: the end",
        "  cursor of slow: block 1, 1 block before the end",
    ]


def test_show_as_json_has_every_number(state: Path) -> None:
    found = answer("show", "--state", str(state))
    retained, transient = found["spools"]
    assert (found["schema"], found["state_directory"], found["pid"]) == ("relay.spool-show/1", str(state), None)
    assert (retained["name"], retained["next_block"], retained["cursors"]) == (
        "retained",
        101,
        {"far": 101, "slow": 40},
    )
    assert [each["path"] for each in retained["segments"]] == list(map(str, segments(state)))
    assert sum(each["messages"] for each in retained["segments"]) == 100
    assert transient["segments"][0]["by_type"] == {"traffic": 1}


def test_show_names_the_damage_and_prints_the_rest(state: Path) -> None:
    first, second = segments(state)
    flip(first, segment.HEADER_LENGTH + 30)
    flip(second, 40)
    code, shown, _ = run_spool("show", "--state", str(state))
    assert code == 0
    assert f"DAMAGED offset {segment.HEADER_LENGTH}: " in shown
    assert "lost: block 1\n" in shown
    assert "DAMAGED offset 0: its own header is damaged" in shown
    assert "retained: 2 segments, 99 messages" in shown, "which costs nothing"


def test_the_process_of_a_running_relay_is_named(state: Path) -> None:
    with opened(state) as store:
        fill(store, [[event("one more")]])
        code, shown, _ = run_spool("show", "--state", str(state))
        assert (code, shown.splitlines()[0]) == (0, f"{state}: running, pid {os.getpid()}")
        code, shown, errors = run_spool("verify", "--state", str(state))
        assert (code, errors) == (0, "")
        assert "102 good blocks with 102 messages" in shown


# --- verify ---


def test_a_whole_spool_is_one_sentence_and_0(state: Path) -> None:
    expected = f"{state}: whole; 101 good blocks with 101 messages in 3 segments, checksums and hash chain checked\n"
    assert run_spool("verify", "--state", str(state)) == (0, expected, "")
    found = answer("verify", "--state", str(state))
    assert (found["schema"], found["whole"], found["spools"][0]["blocks"]) == ("relay.spool-verify/1", True, 100)
    assert len(bytes.fromhex(found["spools"][0]["head"])) == 32


def test_a_break_is_reported_with_segment_offset_and_block_and_65(state: Path) -> None:
    path = segments(state)[1]
    first = segment.first_of(path.name)
    flip(path, segment.HEADER_LENGTH + 300)
    code, shown, errors = run_spool("verify", "--state", str(state))
    assert code == 65
    assert errors == (
        f"relay: {path}: offset {segment.HEADER_LENGTH}, block {first}: "
        f"block {first}: the payload does not match its CRC; lost: block {first}\n"
    )
    assert shown.startswith(f"{state}: damaged, 1 block lost; 100 good blocks with 100 messages in 3 segments")
    done = relay("verify", "--state", str(state), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["whole"]) == (65, False)
    assert found["spools"][0]["breaks"][0]["block"] == first


def test_a_torn_tail_is_a_block_being_written_while_relay_runs_and_damage_when_not(state: Path) -> None:
    path = segments(state)[1]
    with opened(state) as store:
        with path.open("r+b") as file:
            file.seek(store.retained._end)
            file.write(b"\x89RLYBLK\n half a block")
        code, shown, errors = run_spool("verify", "--state", str(state))
        assert (code, errors) == (0, "")
        assert shown.splitlines()[1] == "a block is being written at the end"
    code, shown, errors = run_spool("verify", "--state", str(state))
    assert code == 65
    assert f"{path}: offset " in errors
    assert "a torn tail of 21 octets" in errors
    assert "0 blocks lost; 101 good blocks" in shown


def test_missing_blocks_before_a_cursor_are_damage(state: Path) -> None:
    segments(state)[1].unlink()
    code, _, errors = run_spool("verify", "--state", str(state))
    assert code == 65
    assert "gone: the cursor of far is behind them" in errors


def test_a_folder_without_state_is_66(tmp_path: Path) -> None:
    for command in ("show", "verify", "cat"):
        code, shown, errors = run_spool(command, "--state", str(tmp_path))
        assert (code, shown) == (66, "")
        assert errors == (
            f"relay: {tmp_path}: relay has kept no state there yet; "
            "start relay, or name its folder with --state DIR or -c FILE\n"
        )


# --- cat ---


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    filled(tmp_path, [event("one\ntwo")], [event("admin", EventType.ADMIN), foreign(HOSTILE)], [event("three")])
    return tmp_path


def test_octet_counted_messages_are_exact(hostile: Path) -> None:
    done = relay("cat", "--state", str(hostile), "--octet-counted")
    messages = octet_counted(done.stdout)
    assert done.returncode == 0
    assert b"".join(b"%d %b" % (len(message), message) for message in messages) == done.stdout
    assert [message.rpartition(b"] ")[2] for message in messages] == [b"one\ntwo", b"admin", HOSTILE, b"three"]


def test_raw_messages_end_in_a_line_feed(hostile: Path) -> None:
    done = relay("cat", "--state", str(hostile), "--raw", "--type", "log")
    assert done.stdout == HOSTILE + b"\n"


def test_a_message_is_a_line_with_its_control_characters_escaped(hostile: Path) -> None:
    code, shown, _ = run_spool("cat", "--state", str(hostile))
    assert code == 0
    assert [line.rpartition("] ")[2] for line in shown.splitlines()] == [
        "one\\ntwo",
        "admin",
        "<13>1 - h a - - - \\x1b[2Jred\\r\\nsecond\\xff",
        "three",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--from", "2"], ["admin", "log", "audit"]),
        (["--from", "3"], ["audit"]),
        (["--from", "4"], []),
        (["--type", "admin"], ["admin"]),
        (["--type", "admin", "--type", "audit", "--from", "2"], ["admin", "audit"]),
        (["--spool", "transient"], []),
    ],
)
def test_spool_start_and_types_can_be_chosen(hostile: Path, arguments: list[str], expected: list[str]) -> None:
    done = relay("cat", "--state", str(hostile), "--json", *arguments)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["type"] for each in found] == expected
    assert all(each["schema"] == "relay.spool-cat/1" and each["spool"] == "retained" for each in found)


def test_a_received_message_is_printed_as_json_with_its_sender_and_its_marks(tmp_path: Path) -> None:
    state = tmp_path / "state"
    sender = Provenance("10.0.0.7", "", "tcp://0.0.0.0:514")
    cut = foreign(b"<13>half")._replace(marks=int(ReceiptMark.CUT | ReceiptMark.UNTERMINATED))
    with opened(state) as store:
        fill(store, [[event("own")], Batch([foreign(b"<13>whole"), cut], provenance=sender)])
    done = relay("cat", "--state", str(state), "--json")
    own, whole, half = map(json.loads, done.stdout.splitlines())
    assert not own.keys() & {"from", "by", "via", "marks"}
    assert (whole["from"], whole["by"], whole["via"], whole["marks"]) == (
        *("10.0.0.7", None, "tcp://0.0.0.0:514 syslog"),
        [],
    )
    assert half["marks"] == ["cut", "unterminated"]
    assert [each["format"] for each in answer("show", "--state", str(state))["spools"][0]["segments"]] == [2]


def test_a_large_spool_is_printed_from_the_given_block(state: Path) -> None:
    done = relay("cat", "--state", str(state), "--json", "--from", "95")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["block"], each["number"]) for each in found] == [(number, number) for number in range(95, 101)]


def test_damage_is_skipped_and_reported_with_65(state: Path) -> None:
    flip(segments(state)[0], segment.HEADER_LENGTH + 300)
    code, shown, errors = run_spool("cat", "--state", str(state))
    assert (code, len(shown.splitlines())) == (65, 99)
    assert (
        f"1 place could not be read; the messages there are left out; see `{PROGRAM} spool verify --state {state}`"
        in errors
    )
    assert run_spool("cat", "--state", str(state), "--from", "2")[0] == 0


@pytest.mark.parametrize("option", ["--raw", "--octet-counted"])
def test_a_terminal_gets_no_raw_octets(hostile: Path, option: str) -> None:
    code, text = run_on_a_terminal([*RELAY, "spool", "cat", "--state", str(hostile), option], columns=200)
    assert code == 64
    assert f"{option} is not for a terminal" in text
    assert "\x1b" not in text


def test_show_verify_and_cat_change_no_file(state: Path) -> None:
    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in state.rglob("*") if path.is_file()}

    before = files()
    for command in ("show", "verify", "cat"):
        assert relay(command, "--state", str(state)).returncode == 0
    assert files() == before
