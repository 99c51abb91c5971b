"""One run of a child process whose output is read on demand.

Its output is a pipe that relay does not read ahead: unread data stays there, and a full pipe makes the child wait. Its
stderr goes to relay's log, a line at a time, control characters escaped, in pieces of `_LONGEST_LINE` octets, at most
`MOST_LINES` a second. Further lines are counted, and a child that writes more is read slowly. Its stdin is a pipe
without data; the end of that pipe asks the child to end, as in Telegraf's execd.

The run lasts as long as any process that came out of the child, including a daemon that it has made itself. All of them
end with `stop`, and when relay dies (`subreaper`).
"""

import array
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
import termios
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from relay.source.collector import subreaper
from relay.system.programs.command import environment_of_children
from relay.values.text import decoded, escaped

STOP_SECONDS: Final = 5.0
"""How long a child may take to end after SIGTERM, before SIGKILL."""
_KILL_SECONDS: Final = 3.0
"""How long it may take to end after SIGKILL."""
MOST_LINES: Final = 20
"""Lines of its stderr that are logged in one second."""
_LONGEST_LINE: Final = 1000
_CHUNK: Final = 64 * 1024
_SLOW_SECONDS: Final = 0.05
"""Between two reads of a stderr with too many lines: an endless one must not take relay's time."""
_LAST_LINES_SECONDS: Final = 0.5
"""How long its stderr is read after its end: a process that left its session may keep the pipe open forever."""
_FOR_THE_INTERPRETER: Final = ("LD_LIBRARY_PATH",)
"""Where relay runs with it, the subreaper's Python needs it too."""
_WRAPPER: Final = (sys.executable, "-I", "-S", subreaper.__file__)

_log = logging.getLogger("relay.source")


class _PipeEnds(NamedTuple):
    """relay's ends of its pipes."""

    stdin: int
    stdout: int
    stderr: int


class ChildProcess:
    """A running child. `start` makes it, and `stop` must be called."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, ends: _PipeEnds, stop_s: float) -> None:
        self._name = name
        self._process = process
        self._stdin = ends.stdin
        self._stdout = ends.stdout
        self._stop_s = stop_s
        self._lines = _StderrLines(name)
        self._exit = asyncio.create_task(process.wait())
        self._logging = asyncio.create_task(self._log_stderr(ends.stderr))

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], environment: Sequence[str] = (), stop_s: float = STOP_SECONDS
    ) -> Self:
        """Start the command; `name` is put before its lines in the log. OSError when no process can be made.

        `environment` is NAME=VALUE, in addition to the variables that every program gets.
        """
        # Pipes of our own, because asyncio's end only when every process that holds them has closed them.
        stdin, our_stdin = os.pipe2(os.O_CLOEXEC)
        our_stdout, stdout = os.pipe2(os.O_CLOEXEC)
        our_stderr, stderr = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(our_stdout, False)
        ends = _PipeEnds(our_stdin, our_stdout, our_stderr)
        try:
            process = await asyncio.create_subprocess_exec(
                *_WRAPPER,
                str(os.getpid()),
                str(stop_s),
                *command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=_environment(environment),
                start_new_session=True,
            )
        except BaseException:
            _close(*ends)
            raise
        finally:
            _close(stdin, stdout, stderr)
        return cls(name, process, ends, stop_s)

    def __repr__(self) -> str:
        return f"<ChildProcess {self._name!r} pid={self._process.pid} status={self._process.returncode}>"

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._exit.result() if self._exit.done() else None

    @property
    def last_line(self) -> str:
        """The last line on its stderr that is not empty."""
        return self._lines.last

    @property
    def waiting(self) -> int:
        """Octets that can be read now."""
        octets = array.array("i", [0])
        if self._stdout >= 0:
            fcntl.ioctl(self._stdout, termios.FIONREAD, octets)
        return octets[0]

    def read(self) -> bytes | None:
        """Read all that is in the pipe; None when it is empty, b"" when nothing more will come."""
        ended = self._exit.done()  # before reading, because its last output is in the pipe then
        try:
            # The size of the pipe, so that one call returns everything that was in it.
            return os.read(self._stdout, fcntl.fcntl(self._stdout, fcntl.F_GETPIPE_SZ))
        except BlockingIOError:
            return b"" if ended else None

    async def end(self, seconds: float) -> int | None:
        """Wait so many seconds for its end; its exit status, None when it still runs."""
        await asyncio.wait({self._exit}, timeout=seconds)
        return self.status

    async def changes(self, seconds: float | None) -> None:
        """Wait until there is something to read, or it has ended, or so many seconds have passed."""
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._stdout, readable.set)
        reading = loop.create_task(readable.wait())
        try:
            await asyncio.wait({reading, self._exit}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self._stdout)
            reading.cancel()

    def terminate(self) -> None:
        """Ask it and everything that it started to end; its output until then can still be read."""
        self._signal(signal.SIGTERM)

    async def stop(self) -> None:
        """End it and everything that it started; unread output is lost."""
        _close(self._stdin)
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait({self._exit}, timeout=self._stop_s)
        finally:
            self._signal(signal.SIGHUP)  # to the subreaper, which kills
            _close(self._stdout)
            self._stdout = -1
        await asyncio.wait({self._exit}, timeout=_KILL_SECONDS)
        self._signal(signal.SIGKILL)
        await asyncio.wait({self._exit}, timeout=_KILL_SECONDS)
        if self.status == -signal.SIGKILL:
            # The subreaper may have been killed itself, so kill the rest of its process group. The number of a group
            # is not used again while one of its processes lives.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.wait({self._logging}, timeout=_LAST_LINES_SECONDS)
        self._logging.cancel()
        await asyncio.wait({self._logging})

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _log_stderr(self, stderr: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(_CHUNK)
        pipe = open(stderr, "rb", buffering=0)  # noqa: ASYNC230, SIM115  a pipe's end, which the transport closes
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            while data := await reader.read(_CHUNK):
                self._lines.receive(data, loop.time())
                if self._lines.too_many:
                    await asyncio.sleep(_SLOW_SECONDS)
        finally:
            self._lines.end()
            transport.close()


class _StderrLines:
    """Logs a child's stderr line by line; `now` is in seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = b""
        self._last = b""
        self._since = 0.0
        """The begin of the second in which lines are counted."""
        self._count = 0

    @property
    def last(self) -> str:
        """The last line that is not empty."""
        return escaped(decoded(self._last).strip())

    @property
    def too_many(self) -> bool:
        """Whether more lines came in this second than are logged."""
        return self._count > MOST_LINES

    def receive(self, data: bytes, now: float) -> None:
        """Log the lines that the next octets end."""
        if now - self._since >= 1:
            self._log_count()
            self._since = now
        *lines, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) >= _LONGEST_LINE:
            lines.append(self._begun)
            self._begun = b""
        for line in lines:
            self._log_line(line)

    def end(self) -> None:
        """Log the last line, and how many lines were not logged."""
        self._log_line(self._begun)
        self._log_count()

    def _log_line(self, line: bytes) -> None:
        for start in range(0, len(line), _LONGEST_LINE):
            piece = line[start : start + _LONGEST_LINE].strip()
            if piece:
                self._last = piece
                self._count += 1
                if self._count <= MOST_LINES:
                    _log.warning("%s says: %s", self._name, self.last)

    def _log_count(self) -> None:
        if self.too_many:
            _log.warning("%s said %d lines more", self._name, self._count - MOST_LINES)
        self._count = 0


def _environment(additions: Sequence[str]) -> dict[str, str]:
    interpreters = {name: os.environ[name] for name in _FOR_THE_INTERPRETER if name in os.environ}
    added = {name: value for name, _, value in (each.partition("=") for each in additions)}
    return environment_of_children() | interpreters | added


def _close(*ends: int) -> None:
    for end in ends:
        os.close(end)
