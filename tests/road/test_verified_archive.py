"""`relay archive verify` on archives of `relay receive`: undamaged, while it writes, and after tampering."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from archive.plain_reader import read_archive
from harness.openssh import Sshd
from harness.receiver import Receiver
from harness.records import closed, generate, serials
from harness.relay import RELAY, SEED, Router, archived
from harness.rights import WITHOUT_ROOTS_RIGHTS
from harness.waiting import wait_until

EVENTS = 26  # in SEED
AT_ONCE, PACE = 200, 0.02
"""How many records are written at a time, and the seconds in between."""
SAFE = 40
"""Seconds, in which an archive is written."""
FOLDERS = 4
"""The router, the receiver itself, and two for FOREIGN."""
FOREIGN = (b"<13>1 - switch1 app - - - one", b"<13>Oct 11 22:14:15 mymachine su: 'su root' failed")


def verify(archive: Path, *options: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*RELAY, "archive", "verify", str(archive), *options], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def verify_json(archive: Path, *options: str) -> dict[str, Any]:
    code, shown, _ = verify(archive, "--json", *options)
    found = json.loads(shown)
    assert isinstance(found, dict)
    assert (code, found["whole"]) in {(0, True), (65, False)}
    return found


def originator(found: dict[str, Any], name: str = "combo1") -> dict[str, Any]:
    return next(each for each in found["originators"] if each["name"] == name)


@pytest.fixture(scope="module", params=["syslog", "relp"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two runs of a router, of other programs' messages, and of the receiver's own."""
    folder = tmp_path_factory.mktemp(request.param)
    receiver = Receiver(folder / "server")
    wait_until(is_not_near_midnight, 2 * SAFE, "the next day")
    with receiver.running() as process, Sshd([f"PermitOpen 127.0.0.1:{receiver.port}"]) as sshd:
        router = Router(folder, sshd, receiver.port, protocol=request.param)
        router.audit_log.write_bytes(SEED.read_bytes())
        assert router.drain().returncode == 0
        with router.audit_log.open("ab") as log:
            log.write(closed(generate(40, first_serial=500_000)))
        assert router.drain().returncode == 0
        with socket.create_connection(("127.0.0.1", receiver.port)) as sender:
            sender.sendall(b"".join(b"%d %b" % (len(each), each) for each in FOREIGN))
            sender.shutdown(socket.SHUT_WR)
            sender.recv(1)
        events = len(serials(router.audit_log.read_bytes()))
        receiver.wait_for_messages(events)
        wait_until(lambda: set(FOREIGN) <= set(archived(receiver.archive)), 60, "the other programs' messages")
        process.stop()
    assert len(list(receiver.archive.glob("*/*.log"))) == FOLDERS
    return receiver.archive


def is_not_near_midnight() -> bool:
    """Wait for a new day if one begins soon: each originator is to have one file."""
    return time.time() % 86_400 < 86_400 - SAFE


@pytest.fixture
def archive(written: Path, tmp_path: Path) -> Path:
    """A copy to tamper with, with modes and index."""
    return Path(shutil.copytree(written, tmp_path / "copy"))


def day_file(archive: Path, name: str = "combo1") -> Path:
    (path,) = (archive / name).glob("*.log")
    return path


def frames(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def lay_hand_on(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(frames(path))))


def without_the_first_runs_last(all_of: list[bytes]) -> list[bytes]:
    last = next(each for each in all_of if f'relaySeq="{EVENTS}" type="audit"'.encode() in each)
    return [each for each in all_of if each is not last]


def test_an_undamaged_archive_is_complete_and_every_message_is_counted(written: Path) -> None:
    code, shown, errors = verify(written)
    assert (code, errors) == (0, "")
    assert f"{written}: whole; " in shown
    found = verify_json(written)
    router, switch, other = (originator(found, name) for name in ("combo1", "switch1", "mymachine"))
    assert (router["runs"], router["messages"], router["numbered"]) == (2, router["numbered"], router["messages"])
    assert found["journal"]
    assert (switch["messages"], switch["numbered"]) == (1, 0)
    assert (other["messages"], other["numbered"]) == (1, 0)
    assert "switch1: whole; 1 message (1 without a number)" in shown


def test_a_program_that_shares_no_code_with_relay_reads_and_verifies_it(written: Path) -> None:
    """Python's json and hashlib, as FORMAT.md describes the files."""
    lines = read_archive(written)
    assert sorted(line.message for line in lines) == sorted(archived(written))
    foreign = [line.extent for line in lines if line.message in FOREIGN]
    assert {(extent["from"], extent["via"].partition(":")[0]) for extent in foreign} == {("127.0.0.1", "tcp")}
    assert all(line.extent["id"] for line in lines if line.folder == "combo1")


def test_a_removed_message_is_found_by_the_chain(archive: Path) -> None:
    lay_hand_on(day_file(archive), without_the_first_runs_last)
    code, shown, errors = verify(archive)
    assert code == 65
    assert re.search(
        r"combo1/\S+\.log: lines? \d+.*: not as they were written; line \d+ of the ledger describes", errors
    )
    assert re.search(r"combo1/\S+\.log: cut: \d+ octets are missing that the journal knows", errors)
    assert "not whole, " in shown


def test_without_its_ledger_a_log_is_assessed_by_its_numbers(archive: Path) -> None:
    shutil.rmtree(archive / ".relay")
    code, shown, _ = verify(archive)
    assert (code, "not verifiable" in shown, "not whole" in shown) == (65, True, False)
    lay_hand_on(day_file(archive), without_the_first_runs_last)
    day_file(archive).with_suffix(".ledger").unlink()
    code, shown, errors = verify(archive)
    assert code == 65
    assert "type audit: 1 event is not here (26), as only unverified or contested reports say" in shown
    assert "not whole, 1 file missing; " in shown
    assert "there is no journal" in errors


def test_the_journal_reveals_a_removed_file(archive: Path) -> None:
    path = day_file(archive)
    path.unlink()
    code, _, errors = verify(archive)
    assert code == 65
    assert f"{path}: missing, with " in errors
    assert f"{path.with_suffix('')}: the log of this day is missing, with " in errors


@pytest.mark.parametrize("before", ["", "relayRun", 'relaySeq="', "router"])
def test_a_flipped_bit_anywhere_in_a_message_is_reported(archive: Path, before: str) -> None:
    path = day_file(archive)
    data = bytearray(path.read_bytes())
    begin = data.index(b"\n" + frames(path)[5]) + 1
    data[data.index(before.encode(), begin) + len(before)] ^= 0x10
    path.write_bytes(data)
    assert verify(archive)[0] == 65


def test_a_file_that_this_user_is_not_allowed_to_read_is_refused_permission(archive: Path) -> None:
    day_file(archive).chmod(0)
    done = subprocess.run(
        [*WITHOUT_ROOTS_RIGHTS, *RELAY, "archive", "verify", str(archive)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 77
    assert done.stderr == (
        f"relay: cannot read {day_file(archive)}: permission denied; "
        f"it belongs to this user: `chmod u+rwX {day_file(archive)}`\n"
    )


@contextmanager
def steadily_growing(log: Path) -> Iterator[None]:
    """Write records for as long as the block runs, and some after it."""
    over = threading.Event()

    def write() -> None:
        for first in count(100_000, 10 * AT_ONCE):
            last = over.wait(PACE)
            with log.open("ab") as file:
                file.write(closed(generate(AT_ONCE, first_serial=first)))
            if last:
                return

    writing = threading.Thread(target=write)
    writing.start()
    try:
        yield
    finally:
        over.set()
        writing.join()


def test_an_archive_is_complete_at_every_moment_while_it_is_written(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "server")
    with receiver.running() as process, Sshd([f"PermitOpen 127.0.0.1:{receiver.port}"]) as sshd:
        router = Router(tmp_path, sshd, receiver.port)
        router.audit_log.touch()
        seen: list[int] = []

        def verified() -> int:
            """How many events there were at the second of two looks."""
            code, _, errors = verify(receiver.archive)
            assert (code, errors) == (0, "")
            found = verify_json(receiver.archive)
            assert found["pid"] == process.pid
            seen.append(sum(each["numbered"] for each in found["originators"]))
            return seen[-1]

        with router.start() as relay:
            with steadily_growing(router.audit_log):
                wait_until(lambda: verified() > 0, 60, lambda: relay.log)
            events = len(serials(router.audit_log.read_bytes()))
            wait_until(lambda: verified() >= events, 60, lambda: f"{events} events; there were {seen}")
            relay.stop()
        assert any(0 < each < events for each in seen), "it was all there before the first look"


def test_without_sequence_numbers_the_auditd_protocol_leaves_nothing_to_judge(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "server")
    with receiver.running(), Sshd([f"PermitOpen 127.0.0.1:{receiver.port}"]) as sshd:
        router = Router(tmp_path, sshd, receiver.port, protocol="auditd")
        router.audit_log.write_bytes(SEED.read_bytes())
        assert router.drain().returncode == 0
        receiver.wait_for_messages(len(SEED.read_bytes().splitlines()))
    found = verify_json(receiver.archive)["originators"]
    others = [each for each in found if each["name"] != socket.gethostname()]
    assert sum(each["messages"] for each in others) > len(SEED.read_bytes().splitlines())
    assert sum(each["numbered"] for each in others) == 0


def test_events_from_before_a_servers_start_are_reported_and_accounted_for(tmp_path: Path) -> None:
    """A second receiver is configured after the first run, and begins with the events from then on."""
    early, late = Receiver(tmp_path / "early"), Receiver(tmp_path / "late")
    with early.running(), late.running(), Sshd() as sshd:
        router = Router(tmp_path, sshd, early.port)
        router.audit_log.write_bytes(SEED.read_bytes())
        assert router.drain().returncode == 0
        router.server |= {"name": "late", "start": "now"}
        router.write_configuration(remote_port=late.port)
        with router.audit_log.open("ab") as log:
            log.write(closed(generate(40)))
        assert router.drain().returncode == 0
        late.wait_for_messages(len(serials(closed(generate(40)))))
    code, shown, errors = verify(late.archive)
    assert (code, errors) == (0, ""), shown
    assert "late: before this server's beginning" in shown
