"""Run a program so that no process of it outlives relay: `subreaper.py PARENT SECONDS PROGRAM ARGUMENT…`.

A script of its own, because a process with threads must not run Python between fork and exec; it imports nothing of
relay. A process that outlived relay or the program would move the index file while the next program uses it. So this
process runs between the two as a subreaper (prctl(2)): every process that the program starts and leaves, also in a
session of its own, becomes its child. It ends when none of them is left.

- The program ended with status 0, and others run: it has apparently made itself a daemon. The subreaper writes that to
  stderr once, and waits for them as it would for the program.
- The program ended with another status: the processes that it left are killed.
- The program has none of relay's rights (capabilities(7)), and cannot get new ones.
- SIGTERM is passed on to all of them; after SECONDS they are killed. SIGHUP, and the parent's death: all are killed.

The status is the program's, or after 0 the first other status of a process that it left. A process that belongs to
another user cannot be killed; it is reported and left alone. When this process is killed, the program is killed with
it, and relay kills the rest of its process group (`child_process`). A daemon in a session of its own survives that.
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
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_HIGHEST_CAPABILITY: Final = 63
_CANNOT_RUN: Final = 127
_SIGNALS: Final = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP})
_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_GRACE_SECONDS: Final = 0.5
"""How long processes that the program left may take to end before they are reported, as the rest of a pipe."""
_MOST_KILLS: Final = 20
_SHORTEST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 3600.0
_NAMED: Final = 3
"""So many of the processes that the program left are named."""


def main(parent: int, seconds: float, command: list[str]) -> NoReturn:
    """Run the program to its end, and end with its status."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    if os.getppid() != parent:
        os._exit(_CANNOT_RUN)
    program = os.fork()
    if program == 0:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _give_up_rights()
        _execute(command)
    # Else the program's output and its input would have no end.
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    status = _Descendants(program, command[0], seconds).status()
    if os.WIFSIGNALED(status):
        _prctl(_PR_SET_DUMPABLE, 0)  # the program has left a core of its own
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def _give_up_rights() -> None:
    """Give up what root has by itself, as `relay.system.programs.child_rights` does for other programs."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(_HIGHEST_CAPABILITY + 1):
        _prctl(_PR_CAPBSET_DROP, capability)  # only with CAP_SETPCAP; no_new_privs makes the others useless
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _execute(command: list[str]) -> NoReturn:
    """Replace this process by the program, with the signals as they were for this process."""
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    try:
        os.execv(command[0], command)  # noqa: S606  no shell is meant to look at it
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
    os._exit(_CANNOT_RUN)


class _Descendants:
    """The program, and every process that has come out of it."""

    def __init__(self, program: int, name: str, seconds: float) -> None:
        self._program = program
        self._name = name
        self._seconds = seconds
        self._status: int | None = None
        self._report_at = math.inf
        self._kill_at = math.inf
        self._kills = 0

    def status(self) -> int:
        """Wait until no process is left; the status as of wait(2)."""
        while self._reap():
            now = time.monotonic()
            if self._kills == _MOST_KILLS:
                _report(f"{self._name}: {_names()} cannot be killed by relay's user, and runs on")
                break
            if now >= self._kill_at:
                _signal(signal.SIGKILL)
                self._kills += 1
            elif now >= self._report_at:
                left = _names()
                report = (
                    f"{self._name} has ended with status 0 and left {left} running in its place, as a daemon does; "
                    "give its command the option that keeps it in the foreground"
                )
                if not left or _report(report):
                    self._report_at = math.inf
            timeout = min(max(min(self._kill_at, self._report_at) - now, _SHORTEST_WAIT), _LONGEST_WAIT)
            found = signal.sigtimedwait(_SIGNALS, timeout)
            if found is not None and found.si_signo == signal.SIGHUP:
                self._kill_in(0)
            elif found is not None and found.si_signo == signal.SIGTERM:
                _signal(signal.SIGTERM)
                self._kill_in(self._seconds)
        return signal.SIGKILL if self._status is None else self._status

    def _reap(self) -> bool:
        """Note which processes have ended; whether any is left."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                if pid == self._program:
                    self._status = status
                    self._report_at = time.monotonic() + _GRACE_SECONDS
                elif self._status is not None:
                    self._status = self._status or status
                if self._status:
                    self._kill_in(0)
        except ChildProcessError:
            return False
        return True

    def _kill_in(self, seconds: float) -> None:
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)


def _report(text: str) -> bool:
    """Write a line to stderr without waiting, because this process must react to signals."""
    stderr = select.poll()
    stderr.register(2, select.POLLOUT)
    if not stderr.poll(0):
        return False
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="replace"))
    return True


def _names() -> str:
    names = {pid: _read(f"/proc/{pid}/comm").strip() for pid in _descendants()[:_NAMED]}
    return ", ".join(f"{pid} ({name})" for pid, name in names.items())


def _signal(number: signal.Signals) -> None:
    for pid in _descendants():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _descendants() -> list[int]:
    """Find all living processes that have come out of this one, the eldest first."""
    children: dict[int, list[int]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        stat = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()  # proc(5): state, parent, …
        if stat and stat[0] != "Z":
            children.setdefault(int(stat[1]), []).append(pid)
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, ())
    return found[1:]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # it has ended meanwhile
        return ""


if __name__ == "__main__":

    def report_bug(kind: type[BaseException], error: BaseException, _: object) -> None:
        """One line in place of a traceback."""
        _report(f"a bug: {kind.__name__}: {error}; please report it with the log")

    sys.excepthook = report_bug
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
