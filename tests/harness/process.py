"""A child process of a test: started in its own folder, its output kept, ended with everything that it started.

pytest's temporary folders have mode 0700, which an unprivileged peer cannot enter; `Workplace` is a folder that it can.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.waiting import wait_until

_OF_ITS_LIFE = re.compile(r"(relay: |<5>)(ready: |reloaded: |stops on )")
_ENDING = 30.0  # seconds for a peer to end


class Workplace:
    """A temporary folder that every user can enter; it is removed after the test."""

    def __init__(self, name: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"relay-test-{name}-"))
        self.path.chmod(0o755)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def descendants(pid: int) -> list[int]:
    """Return the present descendants of a process, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent = _parent(int(entry.name))
            if parent is not None:
                children.setdefault(parent, []).append(int(entry.name))
    found = list(children.get(pid, ()))
    for child in found:
        found.extend(children.get(child, ()))
    return found


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])  # proc(5): the fields after the name in brackets


def freeze(parent: int) -> list[int]:
    """Stop every descendant of a process, also those that are being forked; parents first.

    A stopped process does not fork. So when all visible descendants are stopped, all descendants are visible.
    """
    frozen: list[int] = []
    while fresh := [pid for pid in descendants(parent) if pid not in frozen]:
        suspend(fresh)
        frozen += fresh
    return frozen


def suspend(pids: Sequence[int]) -> None:
    """Send SIGSTOP, and return when every process has stopped or ended."""
    signal_all(pids, signal.SIGSTOP)
    wait_until(lambda: all(_state(pid) in "TtZX" for pid in pids), _ENDING, f"processes {pids} have stopped")


def _state(pid: int) -> str:
    """proc(5): T stopped, t traced, Z and X dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "X"
    return stat.rpartition(")")[2].split()[0]


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


class Process:
    """A running child whose output goes to a log file; the end of the `with` block ends it and all its descendants."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log_file = log
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=log.parent
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Negative for the signal that ended it; None while it runs."""
        return self._child.poll()

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def complaints(self) -> list[str]:
        """Return the lines of relay's log, without its reports that it is ready, has reloaded, or stops."""
        return [line for line in self.log.splitlines() if not _OF_ITS_LIFE.match(line)]

    def wait_for_log(self, text: str, seconds: float = 60) -> None:
        """Return when the log has the text; AssertionError when the process ends first or it takes too long."""
        wait_until(lambda: text in self.log or not self.running, seconds, lambda: f"{text!r} in the log:\n{self.log}")
        assert text in self.log, f"ended without {text!r}:\n{self.log}"

    def suspend(self) -> None:
        """Freeze it: it is dead to its peers although its kernel still accepts octets."""
        suspend([self.pid])

    def stop(self) -> None:
        """End it with SIGTERM; children that outlive it are killed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it and all its descendants with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        with _held(descendants(self.pid) if self.running else []) as family:
            if self.running:
                self._child.send_signal(number)
                if number is not signal.SIGKILL:
                    self._child.send_signal(signal.SIGCONT)
            try:
                self._child.wait(_ENDING)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait(_ENDING)
            for member in family:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(member, signal.SIGKILL)


@contextlib.contextmanager
def _held(pids: Sequence[int]) -> Iterator[list[int]]:
    """Open descriptors of the living processes, because their ids may be reused before they get the signal."""
    with contextlib.ExitStack() as closing:
        held = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                held.append(os.pidfd_open(pid))
                closing.callback(os.close, held[-1])
        yield held
