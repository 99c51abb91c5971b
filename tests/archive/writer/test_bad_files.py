"""A file that cannot be used costs its originator a detour, whatever it is and whenever it appears; others go on.

The real receiver without root's rights over files. Every obstacle has an originator of its own.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from harness.ports import LOOPBACK
from harness.receiver import Receiver
from harness.relay import RELAY
from harness.rights import WITHOUT_ROOTS_RIGHTS
from harness.waiting import wait_until

Obstacle = Callable[[Path, Path], None]
"""Makes an obstacle at a path; the other path is a victim outside of the archive, that must stay as it is."""


def a_file(path: Path, _: Path) -> None:
    path.write_bytes(b"nobody's\n")


def a_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def a_dangling_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim / "missing" / "x")


def a_pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def a_folder(path: Path, _: Path) -> None:
    path.mkdir()


def a_folder_without_rights(path: Path, _: Path) -> None:
    path.mkdir(mode=0)


def a_read_only_folder(path: Path, _: Path) -> None:
    path.mkdir(mode=0o500)


def a_file_without_rights(path: Path, _: Path) -> None:
    path.touch(mode=0)


def a_read_only_file(path: Path, _: Path) -> None:
    path.touch(mode=0o400)


OF_FOLDERS: Final[list[Obstacle]] = [
    *(a_file, a_link, a_dangling_link, a_pipe, a_socket, a_folder_without_rights, a_read_only_folder),
]
OF_FILES: Final[list[Obstacle]] = [
    *(a_link, a_dangling_link, a_pipe, a_socket, a_folder, a_file_without_rights, a_read_only_file),
]


def obstacles(archive: Path, day: str) -> Iterator[tuple[str, Path, Obstacle]]:
    """Each originator, the path, and what lies there."""
    for obstacle in OF_FOLDERS:
        name = f"folder-is-{obstacle.__name__.replace('_', '-')}"
        yield name, archive / name, obstacle
    for suffix in ("log", "ledger"):
        for obstacle in OF_FILES:
            name = f"{suffix}-is-{obstacle.__name__.replace('_', '-')}"
            yield name, archive / name / f"{day}.{suffix}", obstacle


def remove(path: Path) -> None:
    """Remove whatever lies there."""
    if path.is_dir() and not path.is_symlink():
        path.chmod(0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def kept(archive: Path) -> list[bytes]:
    """The messages in all logs that are regular files; no link is followed."""
    found: list[bytes] = []
    for folder, _, names in os.walk(archive):
        logs = (Path(folder) / name for name in names if name.endswith(".log"))
        for log in logs:
            if log.is_file() and not log.is_symlink():
                found += log.read_bytes().splitlines()
    return found


def send(receiver: Receiver, names: list[str], number: int) -> None:
    """Send a message of each originator; return when they are accepted."""
    with socket.create_connection((LOOPBACK, receiver.port), timeout=60) as sender:
        sender.sendall(b"".join(b"<13>1 - %b app - - - %d\n" % (name.encode(), number) for name in names))
        sender.shutdown(socket.SHUT_WR)
        assert sender.recv(1) == b""


def ask(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command about the archive."""
    return subprocess.run([*RELAY, *command], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("is_running", [False, True], ids=["before the start", "while it runs"])
def test_a_bad_file_costs_one_originator_a_detour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_running: bool
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"its octets\n")
    receiver = Receiver(tmp_path / "server")
    receiver.prefix = list(WITHOUT_ROOTS_RIGHTS)
    receiver.archive.mkdir()
    monkeypatch.chdir(receiver.archive)  # a socket's path must be short
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    made = list(obstacles(receiver.archive, day))
    names = [name for name, _, _ in made]
    good = [f"good-{number}" for number in range(3)]

    def make_obstacles() -> None:
        for _, path, obstacle in made:
            remove(path)
            path.parent.mkdir(exist_ok=True)
            obstacle(path, victim)

    expected: list[bytes] = []

    def deliver(number: int, of: list[str]) -> None:
        send(receiver, of, number)
        expected.extend(b"<13>1 - %b app - - - %d" % (name.encode(), number) for name in of)
        wait_until(lambda: set(kept(receiver.archive)) >= set(expected), 60, receiver.status)

    if not is_running:
        make_obstacles()
    with receiver.running():
        if is_running:
            deliver(1, [*names, *good])
            expected.clear()  # what somebody removes is not relay's
            make_obstacles()
        deliver(2, [*names, *good])
        deliver(3, [*names, *good])
        wait_until(lambda: "in ~aside/NAME meanwhile" in receiver.status(), 60, receiver.status)
    with receiver.running():
        deliver(4, [*names, *good])
        for _, path, obstacle in made:
            if "rights" in obstacle.__name__ or "read_only" in obstacle.__name__:
                path.chmod(0o700)  # a missing permission is the caller's affair
        answers = [ask(*command, str(receiver.archive)) for command in (("events", "--archive"), ("archive", "verify"))]
    assert victim.read_bytes() == b"its octets\n"
    found = kept(receiver.archive)
    assert all(found.count(message) == 1 for message in expected)
    for name in good:
        assert len(list((receiver.archive / name).glob("*.log"))) == 1
    assert not any("Traceback" in answer.stderr for answer in answers)
    assert all(answers[0].stdout.count(f" {name} ") >= 3 for name in [*names, *good])
    assert all(f"{name}: whole; " in answers[1].stdout for name in good)
    assert answers[1].returncode == os.EX_DATAERR
    for name in names:
        assert name in answers[1].stdout + answers[1].stderr, name
