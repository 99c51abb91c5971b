"""The meaning of signals to `relay run` and `relay receive`: no signal ends them by surprise.

SIGTERM and SIGINT stop the program. SIGHUP reloads its configuration, SIGUSR1 logs its status. Every other signal that
would end a program by default does nothing, except those in `FAULTS`, by which the processor reports a fault.

`hold` is called before anything else is imported, so that a SIGHUP during the start or after the end does nothing. A
signal during the start takes effect as soon as the program is ready. As long as child programs are started, handlers do
all this, and no signal is ignored: exec resets a handler to the default, so that the children behave as always.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Final, Self

FAULTS: Final = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS})
"""If a handler returned from one of these, the instruction that caused it would be repeated for ever."""
_STOPPING: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_NOT_ENDING: Final = frozenset(
    {
        *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),
        *(signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    }
)
"""signal(7): their default is to do nothing, to stop the process, or to let it continue."""
_LEFT_ALONE: Final = FAULTS | _STOPPING | _NOT_ENDING | {signal.SIGKILL}
STOP_SECONDS: Final = 10.0
"""How long a stop may take before the program ends at once."""
_LATE: Final = 70  # sysexits.h: EX_SOFTWARE
_log = logging.getLogger("relay")

_early: Final[set[int]] = set()
"""Signals that arrived before `Signals` was entered."""


def hold() -> None:
    """Make every signal do nothing that would end the program, except SIGTERM, SIGINT and those in `FAULTS`."""
    for number in signal.valid_signals() - _LEFT_ALONE:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGHUP:  # nohup ignores SIGHUP
            with contextlib.suppress(OSError, ValueError):  # the C library's own, which cannot be handled
                signal.signal(number, lambda number, _: _early.add(number))


@contextlib.contextmanager
def wakeup_socket() -> Iterator[socket.socket]:
    """A socket that becomes readable after a signal's handler has run, whichever thread the signal was delivered to.

    To be used in the main thread. The handlers themselves are the caller's.
    """
    woken, waker = socket.socketpair()
    with woken, waker:
        woken.setblocking(False)
        waker.setblocking(False)
        former = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            yield woken
        finally:
            signal.set_wakeup_fd(former)


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
        self._limited = False
        self._loop = asyncio.get_running_loop()
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        hold()
        woken = self._undo.enter_context(wakeup_socket())

        def drain() -> None:
            with contextlib.suppress(BlockingIOError):
                while woken.recv(4096):
                    pass

        def take_soon(number: int, _: FrameType | None) -> None:
            if number in _STOPPING:
                self.limit_stop()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._take, number)

        self._loop.add_reader(woken, drain)
        self._undo.callback(self._loop.remove_reader, woken)
        for number in (*_STOPPING, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, take_soon)
        for early in tuple(_early):
            self._take(early)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The program is about to end. Python then resets handlers to the default, but an ignored signal stays ignored.
        for ending in signal.valid_signals() - (_LEFT_ALONE - _STOPPING):
            with contextlib.suppress(OSError, ValueError):
                late = self._limited and ending == signal.SIGALRM
                signal.signal(ending, signal.SIG_DFL if late else signal.SIG_IGN)
        self._undo.close()

    def limit_stop(self) -> None:
        """The program is about to end: if it takes longer than `STOP_SECONDS`, it ends at once, without its farewells.

        A kernel timer, because an attack or a bug may have left the process no thread, and its event loop no turn.
        """
        if not self._limited:
            self._limited = True
            signal.signal(signal.SIGALRM, _end_late)
            signal.setitimer(signal.ITIMER_REAL, STOP_SECONDS)

    def _take(self, number: int) -> None:
        if number in _STOPPING:
            self.stopped_by = self.stopped_by or signal.Signals(number).name
            self.stopping.set()
        elif number == signal.SIGHUP:
            self.reload.set()
        elif number == signal.SIGUSR1:
            self.report.set()


def _end_late(number: int, frame: FrameType | None) -> None:
    del number, frame
    threads = ", ".join(sorted(each.name for each in threading.enumerate() if each is not threading.main_thread()))
    waits = f"; these threads still run: {threads}" if threads else ""
    _log.error("stopping took longer than %g s, so relay ends at once; nothing accepted is lost%s", STOP_SECONDS, waits)
    os._exit(_LATE)
