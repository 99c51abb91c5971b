"""Run a program so that nothing of it outlives relay: `subreaper.py PARENT SECONDS PROGRAM ARGUMENT…`.

A script of its own, since between fork and exec a process with threads may run no Python; it imports nothing of relay.
What outlived relay, or the program, would go on moving the index file under the next one's feet. So this process stands
between the two as a subreaper (prctl(2)): whatever the program starts and leaves behind, also in a session of its own,
becomes its child, and it ends when none of them is left.

- The program ended with status 0, and others run: it has made itself a daemon, as far as can be seen. stderr is told
  once, and they are waited for as if they were the program.
- The program ended otherwise: what it left is killed.
- SIGTERM: all are sent it, and killed when SECONDS have passed. SIGHUP, and the parent's death: all are killed.

The status is the program's, or after 0 the first other one of those that it left. What may not be killed, since it is
another user's, is told of and left alone. Whoever kills this process kills the program with it; relay then kills what
has stayed in its process group (`child_process`), and nobody a daemon in a session of its own.
"""

import contextlib
import ctypes
import math
import os
import select
import signal
import sys
import time
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_CANNOT_RUN: Final = 127
_SIGNALS: Final = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP})
_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_GRACE_SECONDS: Final = 0.5
"""How long what the program left may take to end before that is told: the rest of a shell's pipe, say."""
_MOST_KILLS: Final = 20
_SHORTEST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 3600.0
_NAMED: Final = 3
"""Of those that the program left, so many are named."""


def main(parent: int, seconds: float, command: list[str]) -> NoReturn:
    """Run the program to its end, and end as it did."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    if os.getppid() != parent:
        os._exit(_CANNOT_RUN)
    program = os.fork()
    if program == 0:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _become(command)
    _let_go_of_the_pipes()
    _end_as(_Family(program, command[0], seconds).status())


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _become(command: list[str]) -> NoReturn:
    """Become the program, with the signals as they were for this process."""
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    try:
        os.execv(command[0], command)  # noqa: S606  no shell is meant to look at it
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
    os._exit(_CANNOT_RUN)


def _let_go_of_the_pipes() -> None:
    """Else the program's output would have no end, and its input neither."""
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)


def _end_as(status: int) -> NoReturn:
    """End with that status of wait(2)."""
    if os.WIFSIGNALED(status):
        _prctl(_PR_SET_DUMPABLE, 0)  # the program has left a core of its own
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


class _Family:
    """The program, and all that has come out of it."""

    def __init__(self, program: int, name: str, seconds: float) -> None:
        self._program = program
        self._name = name
        self._seconds = seconds
        self._status: int | None = None
        self._tell_at = math.inf
        self._kill_at = math.inf
        self._kills = 0

    def status(self) -> int:
        """Wait until nobody is left; how it ended."""
        while self._reap():
            now = time.monotonic()
            if self._kills == _MOST_KILLS:
                _say(f"{self._name}: {_left()} cannot be killed by relay's user, and runs on")
                break
            if now >= self._kill_at:
                _signal(signal.SIGKILL)
                self._kills += 1
            elif now >= self._tell_at and self._tell_of(_left()):
                self._tell_at = math.inf
            self._wait(min(self._kill_at, self._tell_at) - now)
        return signal.SIGKILL if self._status is None else self._status

    def _reap(self) -> bool:
        """Take note of who has ended; whether somebody is left."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._note(*ended)
        except ChildProcessError:
            return False
        return True

    def _note(self, pid: int, status: int) -> None:
        if pid == self._program:
            self._status = status
            self._tell_at = time.monotonic() + _GRACE_SECONDS
        elif self._status is not None:
            self._status = self._status or status
        if self._status:
            self._kill_in(0)

    def _wait(self, seconds: float) -> None:
        """Wait for a signal, and do what it asks for."""
        found = signal.sigtimedwait(_SIGNALS, min(max(seconds, _SHORTEST_WAIT), _LONGEST_WAIT))
        if found is not None and found.si_signo == signal.SIGHUP:
            self._kill_in(0)
        elif found is not None and found.si_signo == signal.SIGTERM:
            _signal(signal.SIGTERM)
            self._kill_in(self._seconds)

    def _kill_in(self, seconds: float) -> None:
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)

    def _tell_of(self, left: str) -> bool:
        """Say who is left, if anybody; False while nobody reads what is said."""
        return not left or _say(
            f"{self._name} has ended with status 0 and left {left} running in its place, as a daemon does; give its "
            "command the option that keeps it in the foreground"
        )


def _say(words: str) -> bool:
    """Say a line on stderr, but wait for nobody: this process must not become deaf."""
    stderr = select.poll()
    stderr.register(2, select.POLLOUT)
    if not stderr.poll(0):
        return False
    with contextlib.suppress(OSError):
        os.write(2, f"{words}\n".encode(errors="replace"))
    return True


def _left() -> str:
    return ", ".join(f"{pid} ({_name_of(pid)})" for pid in _descendants()[:_NAMED])


def _signal(number: signal.Signals) -> None:
    for pid in _descendants():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _descendants() -> list[int]:
    """Find all that have come out of this process and live; the eldest first."""
    children: dict[int, list[int]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        state, parent = _state_and_parent(pid)
        if state != "Z":
            children.setdefault(parent, []).append(pid)
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, ())
    return found[1:]


def _state_and_parent(pid: int) -> tuple[str, int]:
    """Look a process up (proc(5)); no parent is 0."""
    stat = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (stat[0], int(stat[1])) if stat else ("Z", 0)


def _name_of(pid: int) -> str:
    return _read(f"/proc/{pid}/comm").strip()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # it has ended meanwhile
        return ""


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
