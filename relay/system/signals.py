"""What signals mean to `relay run` and `relay receive`: no signal ends them by surprise.

SIGTERM and SIGINT stop the program. SIGHUP reloads its configuration, SIGUSR1 logs its status. Every other signal that
would end a program by default does nothing, except those in `FAULTS`, by which the processor reports a fault.

`hold` is called before anything else is imported, so that a SIGHUP during the start or after the end does nothing; one
that came during the start reloads as soon as the program is ready. All of this is done by handlers, not by ignoring, as
long as child programs are started: exec resets a handler to the default, so that they behave as they always do.
"""

import asyncio
import contextlib
import signal
import socket
from types import FrameType, TracebackType
from typing import Final, Self

FAULTS: Final = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS})
"""The instruction that caused one of these would be repeated for ever if a handler returned."""
_STOPPING: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_NOT_ENDING: Final = frozenset(
    {
        *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),
        *(signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    }
)
"""signal(7): those whose default is to do nothing, to stop the process, or to let it continue."""
_LEFT_ALONE: Final = FAULTS | _STOPPING | _NOT_ENDING | {signal.SIGKILL}
_early: Final[set[int]] = set()
"""Signals that came while no `Signals` listened."""


def hold() -> None:
    """Make every signal do nothing that would end the program, except SIGTERM, SIGINT and those in `FAULTS`."""
    for number in signal.valid_signals() - _LEFT_ALONE:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGHUP:  # nohup ignores SIGHUP
            with contextlib.suppress(OSError, ValueError):  # the C library's own, which nobody may handle
                signal.signal(number, _note)


def _note(number: int, _: FrameType | None) -> None:
    _early.add(number)


class Signals:
    """The signals of a running program, as events of its loop. Use it with `with`, in the main thread."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.stopped_by = ""
        """The name of the signal that stops the program."""
        self.reload = asyncio.Event()
        """Set by SIGHUP; the program that reloads clears it first."""
        self.report = asyncio.Event()
        """Set by SIGUSR1; the program that logs its status clears it first."""
        self._loop = asyncio.get_running_loop()
        # A signal may be delivered to another thread; the octet that Python then writes here wakes the loop.
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)

    def __enter__(self) -> Self:
        hold()
        self._loop.add_reader(self._woken, self._drain)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (*_STOPPING, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, self._came)
        for early in tuple(_early):
            self._take(early)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The program is about to end by itself; Python sets handlers back to the default, but leaves what is ignored.
        for ending in signal.valid_signals() - (_LEFT_ALONE - _STOPPING):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(ending, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        self._loop.remove_reader(self._woken)
        self._woken.close()
        self._waker.close()

    def _came(self, number: int, _: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._take, number)

    def _take(self, number: int) -> None:
        if number in _STOPPING:
            self.stopped_by = self.stopped_by or signal.Signals(number).name
            self.stopping.set()
        elif number == signal.SIGHUP:
            self.reload.set()
        elif number == signal.SIGUSR1:
            self.report.set()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
