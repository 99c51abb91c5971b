"""A message to all users: to a stub, as root and as another user, and once to a real terminal."""

import os
import pty
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from harness.waiting import wait_until
from program.connection_test.asking import in_namespace
from program.watch.conftest import Stubs

from relay.program.watch.all_users import TEXTS, UNWATCHED
from relay.values.alarm import AUDITD_DOWN, SERVER_LOST, SPOOL_FULL, SPOOL_IGNORING

UNSHARE = "/usr/bin/unshare"  # by its path: PATH has the stubs alone
AS_ROOT = [] if os.geteuid() == 0 else [UNSHARE, "--user", "--map-root-user"]
# A user namespace without a map: the kernel's "nobody", who can still reach the files of this test.
AS_ANOTHER = [UNSHARE, "--user"] if os.geteuid() == 0 else []
SEND = """
import sys
from relay.system.disk import Disk
from relay.program.watch.all_users import AllUsers
users = AllUsers(Disk(), sys.argv[1])
for name in sys.argv[2:]:
    users.send(name)
"""
SEND_CHANGES = """
import sys
from relay.values.alarm import Alarms, Alarm
from relay.system.disk import Disk
from relay.program.watch.all_users import AllUsers
users = AllUsers(Disk(), sys.argv[1])
alarms = Alarms()
for at, text in enumerate(("\\x1b[2Jfirst", "\\x1b[2Jsecond", "")):
    change = alarms.raise_(Alarm("spool-full", "critical", text), at) if text else alarms.clear("spool-full", at)
    users.send_change(change)
"""
SEND_AUDITD = """
import sys
from pathlib import Path
from relay.values.alarm import AUDITD_DOWN, SPOOL_FULL, Alarm, Alarms
from relay.system.disk import Disk
from relay.program.watch.all_users import AllUsers
login = Path(sys.argv[1]).parent / "motd.d" / "relay"
users = AllUsers(Disk(), sys.argv[1], str(login))
alarms = Alarms()
for name in (SPOOL_FULL, AUDITD_DOWN):
    users.send_change(alarms.raise_(Alarm(name, "critical", name), 0))
users.remind(alarms.active)
if len(sys.argv) > 2:
    users.send_change(alarms.clear(AUDITD_DOWN, 1))
    users.remind(alarms.active)
"""
SEND_UNWATCHED = """
import sys
from pathlib import Path
from relay.system.disk import Disk
from relay.program.watch.all_users import AllUsers
login = Path(sys.argv[1]).parent / "motd.d" / "relay"
users = AllUsers(Disk(), sys.argv[1], str(login))
users.send("auditd-down")
assert login.exists()
users.send("auditd-down-unwatched")
"""
FULL = TEXTS[SPOOL_FULL]
DOWN = TEXTS[AUDITD_DOWN]


def send(prefix: list[str], path: Path, *names: str, program: str = SEND) -> str:
    """Send these messages; what was logged (nothing configures the log, so it is what Python writes to stderr)."""
    argv = [*prefix, sys.executable, "-c", program, str(path), *names]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return done.stderr


def test_root_sends_a_message_with_wall(tmp_path: Path, stubs: Stubs) -> None:
    path = tmp_path / "message"
    assert send(AS_ROOT, path, SPOOL_FULL, SPOOL_IGNORING) == ""
    assert stubs.ran == [f"wall <{FULL}>", f"wall <{TEXTS[SPOOL_IGNORING]}>"]
    assert list(tmp_path.glob("message*")) == []


def test_another_user_creates_a_file_for_roots_unit(tmp_path: Path, stubs: Stubs) -> None:
    assert send(AS_ANOTHER, tmp_path / "message", SPOOL_FULL, SPOOL_FULL) == ""
    assert [(path.name, path.read_bytes()) for path in tmp_path.glob("message*")] == [("message.spool-full", b"")]
    assert stubs.ran == []


def test_an_alarm_is_a_message_at_its_beginning_and_at_its_end_only(tmp_path: Path, stubs: Stubs) -> None:
    send(AS_ROOT, tmp_path / "message", program=SEND_CHANGES)
    assert stubs.ran == [f"wall <{FULL}>", f"wall <{TEXTS[SPOOL_FULL + '-cleared']}>"]


@pytest.mark.parametrize("name", [SERVER_LOST, "no-such-alarm", "../escape", ""])
def test_a_name_without_a_text_is_sent_to_nobody(tmp_path: Path, stubs: Stubs, name: str) -> None:
    for prefix in (AS_ROOT, AS_ANOTHER):
        assert send(prefix, tmp_path / "message", name) == ""
    assert stubs.ran == []
    assert list(tmp_path.glob("message*")) == []


def test_the_same_failure_is_logged_once(tmp_path: Path, stubs: Stubs) -> None:
    stubs.write("wall", "#!/bin/sh\nexit 1\n")
    logged = send(AS_ROOT, tmp_path / "message", SPOOL_FULL, SPOOL_FULL, SPOOL_FULL).splitlines()
    assert len(logged) == 1
    assert logged[0].startswith("a message to all users could not be sent: wall: ended with exit code 1")


def test_a_missing_folder_is_logged_with_its_remedy(tmp_path: Path) -> None:
    logged = send(AS_ANOTHER, tmp_path / "missing" / "message", SPOOL_FULL)
    assert f"{tmp_path}/missing/message.spool-full: open failed: No such file" in logged
    assert "as deploy/relay.service does" in logged


def test_every_text_is_one_plain_line_that_begins_with_relay() -> None:
    for text in TEXTS.values():
        assert text.isascii()
        assert text.isprintable()
        assert text.startswith("relay: ")
        assert len(text) <= 79  # where wall(1) breaks lines
        assert not set(text) & set("\"'$`\\%")  # it stands between quotes in a unit


def test_a_lasting_alarm_is_repeated_and_is_the_login_message(tmp_path: Path, stubs: Stubs) -> None:
    send(AS_ROOT, tmp_path / "message", program=SEND_AUDITD)
    assert stubs.ran == [f"wall <{FULL}>", f"wall <{DOWN}>", f"wall <{DOWN}>"]
    login = tmp_path / "motd.d" / "relay"
    assert (login.read_text(), login.stat().st_mode & 0o777) == (f"{DOWN}\n", 0o644)


def test_the_end_of_a_lasting_alarm_is_sent_once_and_removes_the_login_message(tmp_path: Path, stubs: Stubs) -> None:
    send(AS_ROOT, tmp_path / "message", "over", program=SEND_AUDITD)
    assert stubs.ran[3:] == [f"wall <{TEXTS[AUDITD_DOWN + '-cleared']}>"]
    assert list((tmp_path / "motd.d").iterdir()) == []


def test_an_alarm_that_is_no_longer_watched_leaves_the_login_message(tmp_path: Path, stubs: Stubs) -> None:
    assert send(AS_ROOT, tmp_path / "message", program=SEND_UNWATCHED) == ""
    assert stubs.ran == [f"wall <{DOWN}>", f"wall <{TEXTS[AUDITD_DOWN + UNWATCHED]}>"]
    assert list((tmp_path / "motd.d").iterdir()) == []


def test_another_user_does_not_write_the_login_message_itself(tmp_path: Path, stubs: Stubs) -> None:
    assert send(AS_ANOTHER, tmp_path / "message", program=SEND_AUDITD) == ""
    assert sorted(path.name for path in tmp_path.glob("message*")) == ["message.auditd-down", "message.spool-full"]
    assert not (tmp_path / "motd.d").exists()
    assert stubs.ran == []


def test_a_login_message_that_cannot_be_written_does_not_stop_wall(tmp_path: Path, stubs: Stubs) -> None:
    (tmp_path / "motd.d").touch()
    assert "motd.d/relay: cannot be written" in send(AS_ROOT, tmp_path / "message", program=SEND_AUDITD)
    assert stubs.ran[1:] == [f"wall <{DOWN}>"] * 2


def test_an_alarms_own_text_does_not_reach_a_terminal(tmp_path: Path, stubs: Stubs) -> None:
    send(AS_ROOT, tmp_path / "message", program=SEND_CHANGES)
    assert len(stubs.ran) == 2, "a message at the beginning and one at the end"
    assert not any(text in call for call in stubs.ran for text in ("first", "second", "\x1b"))


# --- For real ---

# utmp(5): type, pid, line, id, user, host, exit status, session, time, address, spare.
_UTMP = struct.Struct("hxxi32s4s32s256shhiii4i20x")
_USER_PROCESS = 7


def login_record(line: str) -> bytes:
    return _UTMP.pack(_USER_PROCESS, os.getpid(), line.encode(), b"t1", b"tester", b"", *([0] * 9))


def test_wall_reaches_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real wall, in a mount namespace whose /run/utmp knows one terminal: this test's own."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
    screen, terminal = pty.openpty()
    try:
        utmp = tmp_path / "utmp"
        utmp.write_bytes(login_record(os.ttyname(terminal).removeprefix("/dev/")))
        script = f"mount -t tmpfs none /run\ncat {utmp} > /run/utmp"
        assert send(in_namespace("mount", script), tmp_path / "message", SPOOL_FULL) == ""
        os.set_blocking(screen, False)
        shown = b""

        def message_has_come() -> bool:
            nonlocal shown
            try:
                shown += os.read(screen, 65536)
            except BlockingIOError:
                return False
            return FULL.encode() in b" ".join(shown.split())

        wait_until(message_has_come, 60, lambda: repr(shown))
    finally:
        os.close(screen)
        os.close(terminal)
