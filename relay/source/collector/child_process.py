"""One life of a child process whose output is read: started, read when somebody wants to, stopped.

Its output is a pipe that nobody reads ahead: what is not wanted yet stays there, and a full pipe makes the child wait.
What it says on stderr goes to relay's log, a line at a time, control characters escaped, in pieces of `_LONGEST_LINE`
octets, `MOST_LINES` a second at most; the others are counted, and a child that says more than that is read slowly.
Its input is a pipe too, in which nothing comes until it is closed, and that means the end, as from Telegraf's execd.

It lives as long as anything does that came out of it, a daemon that it has made itself too, and all of that ends with
`stop`, and when relay dies (`subreaper`).
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
from relay.values.text import decoded, escaped

STOP_SECONDS: Final = 5.0
"""How long a child may take to end after SIGTERM, before SIGKILL."""
_KILLED_SECONDS: Final = 3.0
"""How long it may take to be killed."""
MOST_LINES: Final = 20
"""Lines of its words that are logged in one second."""
_LONGEST_LINE: Final = 1000
_MOST_WORDS: Final = 64 * 1024
_SLOWLY: Final = 0.05
"""Between two reads of a child that says too much: an endless stream of words must not take relay's time."""
_LAST_WORDS_SECONDS: Final = 0.5
"""How long its words are waited for when it is dead: what left its session may hold the pipe for ever."""
_WRAPPER: Final = (sys.executable, "-I", "-S", subreaper.__file__)

_log = logging.getLogger("relay.source")


class _PipeEnds(NamedTuple):
    """Relay's ends of its pipes."""

    input: int
    output: int
    words: int


class ChildProcess:
    """A running child. Make it with `start`; `stop` must be called."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, ends: "_PipeEnds") -> None:
        self._name = name
        self._process = process
        self._input = ends.input
        self._output = ends.output
        self._words = _StderrLines(name)
        self._exit = asyncio.create_task(process.wait())
        self._listening = asyncio.create_task(self._listen(ends.words))

    @classmethod
    async def start(cls, name: str, command: Sequence[str], environment: Sequence[str] = ()) -> Self:
        """Start the command; `name` stands before its words in the log. OSError when there can be no process.

        `environment` is NAME=VALUE, on top of relay's own.
        """
        # Pipes of our own: a process of asyncio's ends only when all that hold its pipes have closed them.
        stdin, input_ = os.pipe2(os.O_CLOEXEC)
        output, stdout = os.pipe2(os.O_CLOEXEC)
        words, stderr = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(output, False)
        ends = _PipeEnds(input_, output, words)
        try:
            process = await asyncio.create_subprocess_exec(
                *_WRAPPER,
                str(os.getpid()),
                str(STOP_SECONDS),
                *command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=os.environ | {name: value for name, _, value in (each.partition("=") for each in environment)},
                start_new_session=True,
            )
        except BaseException:
            _close(*ends)
            raise
        finally:
            _close(stdin, stdout, stderr)
        return cls(name, process, ends)

    def __repr__(self) -> str:
        return f"<ChildProcess {self._name!r} pid={self._process.pid} status={self._process.returncode}>"

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._exit.result() if self._exit.done() else None

    @property
    def last_words(self) -> str:
        """The last line that it said on stderr."""
        return self._words.last

    @property
    def waiting(self) -> int:
        """Octets that can be read now."""
        octets = array.array("i", [0])
        if self._output >= 0:
            fcntl.ioctl(self._output, termios.FIONREAD, octets)
        return octets[0]

    def read(self) -> bytes | None:
        """Read all that is in the pipe; None when it is empty, b"" when nothing more will come."""
        ended = self._exit.done()  # looked at first: what it wrote before is in the pipe
        try:
            # As much as the pipe can hold: one call gives all that was in it when the call was made.
            return os.read(self._output, fcntl.fcntl(self._output, fcntl.F_GETPIPE_SZ))
        except BlockingIOError:
            return b"" if ended else None

    async def end(self, seconds: float) -> int | None:
        """Wait for its end; its exit status, None when it still runs after so many seconds."""
        await asyncio.wait({self._exit}, timeout=seconds)
        return self.status

    async def changes(self, seconds: float | None) -> None:
        """Wait until there is something to read, or it has ended, or so many seconds have passed."""
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._output, readable.set)
        reading = loop.create_task(readable.wait())
        try:
            await asyncio.wait({reading, self._exit}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self._output)
            reading.cancel()

    def terminate(self) -> None:
        """Ask it, and all that it started, to end; what it writes until then can be read."""
        self._signal(signal.SIGTERM)

    async def stop(self) -> None:
        """End it and all that it started; what it has written and nobody has read is gone."""
        _close(self._input)
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait({self._exit}, timeout=STOP_SECONDS)
        finally:
            self._signal(signal.SIGHUP)  # to the subreaper, which kills
            _close(self._output)
            self._output = -1
        await asyncio.wait({self._exit}, timeout=_KILLED_SECONDS)
        self._signal(signal.SIGKILL)
        await asyncio.wait({self._exit}, timeout=_KILLED_SECONDS)
        if self.status == -signal.SIGKILL:  # the subreaper may have been killed itself, and have killed nobody
            self._kill_group()
        await asyncio.wait({self._listening}, timeout=_LAST_WORDS_SECONDS)
        self._listening.cancel()
        await asyncio.wait({self._listening})

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _kill_group(self) -> None:
        """Kill what has stayed in its process group: a group's number is no other's while one of it lives."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _listen(self, words: int) -> None:
        """Log what it says."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(_MOST_WORDS)
        pipe = open(words, "rb", buffering=0)  # noqa: ASYNC230, SIM115  a pipe's end, which the transport closes
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            while data := await reader.read(_MOST_WORDS):
                self._words.hear(data, loop.time())
                if self._words.too_many:
                    await asyncio.sleep(_SLOWLY)
        finally:
            self._words.end()
            transport.close()


class _StderrLines:
    """What a child says, line by line; `now` is in seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = b""
        self._last = b""
        self._since = 0.0
        """When the second began in which lines are counted."""
        self._lines = 0

    @property
    def last(self) -> str:
        """The last line that is not empty."""
        return _printable(self._last)

    @property
    def too_many(self) -> bool:
        """Whether more than can be logged came in this second."""
        return self._lines > MOST_LINES

    def hear(self, data: bytes, now: float) -> None:
        """Take the next octets, and log the lines that they end."""
        if now - self._since >= 1:
            self._count()
            self._since = now
        *lines, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) >= _LONGEST_LINE:
            lines.append(self._begun)
            self._begun = b""
        for line in lines:
            self._hear(line)

    def end(self) -> None:
        """Log what has begun, and how much was not logged."""
        self._hear(self._begun)
        self._count()

    def _hear(self, line: bytes) -> None:
        for start in range(0, len(line), _LONGEST_LINE):
            piece = line[start : start + _LONGEST_LINE].strip()
            if piece:
                self._last = piece
                self._lines += 1
                if self._lines <= MOST_LINES:
                    _log.warning("%s says: %s", self._name, self.last)

    def _count(self) -> None:
        if self.too_many:
            _log.warning("%s said %d lines more", self._name, self._lines - MOST_LINES)
        self._lines = 0


def _printable(line: bytes) -> str:
    return escaped(decoded(line).strip())


def _close(*ends: int) -> None:
    for end in ends:
        os.close(end)
