"""One life of a child process whose output is read: started, read when somebody wants to, stopped.

Its output is a pipe that nobody reads ahead: what is not wanted yet stays there, and a full pipe makes the child wait.
What it says on stderr goes to relay's log, a line at a time, control characters escaped, each cut at `_LONGEST_LINE`
characters. It is killed when relay dies (`die_with_parent`). It has a session of its own: `stop` ends all it started.
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
from typing import Final, Self

from relay.source import die_with_parent

STOP_SECONDS: Final = 5.0
"""How long a child may take to end after SIGTERM, before SIGKILL."""
_LONGEST_LINE: Final = 1000
_WRAPPER: Final = (sys.executable, "-I", "-S", die_with_parent.__file__)

_log = logging.getLogger("relay.source")


class ChildProcess:
    """A running child. Make it with `start`; `stop` must be called."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, output: int) -> None:
        self._name = name
        self._process = process
        self._output = output
        self._exit = asyncio.create_task(process.wait())
        self._listening = asyncio.create_task(self._listen())
        self.last_words = ""
        """The last line that it said on stderr."""

    @classmethod
    async def start(cls, name: str, command: Sequence[str]) -> Self:
        """Start the command; `name` stands before its words in the log. OSError when there can be no process."""
        output, input_ = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(input_, True)
        try:
            process = await asyncio.create_subprocess_exec(
                *_WRAPPER,
                str(os.getpid()),
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=input_,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(input_)
        return cls(name, process, output)

    def __repr__(self) -> str:
        return f"<ChildProcess {self._name!r} pid={self._process.pid} status={self._process.returncode}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._exit.result() if self._exit.done() else None

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

    async def stop(self) -> None:
        """End it and all that it started; what it has written and nobody has read is gone."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait({self._exit}, timeout=STOP_SECONDS)
        finally:
            self._signal(signal.SIGKILL)
            os.close(self._output)
            self._output = -1
        await asyncio.wait({self._exit, self._listening}, timeout=STOP_SECONDS)
        self._listening.cancel()

    def _signal(self, number: signal.Signals) -> None:
        """Signal its session: the child itself may be gone already, and what it started not."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _listen(self) -> None:
        """Log what it says."""
        stderr = self._process.stderr
        begun = b""
        while stderr is not None and (data := await stderr.read(_LONGEST_LINE)):
            *lines, begun = (begun + data).split(b"\n")
            if len(begun) >= _LONGEST_LINE:
                lines.append(begun)
                begun = b""
            for line in lines:
                self._say(line)
        self._say(begun)

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="backslashreplace").strip()
        if text:
            self.last_words = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
            _log.warning("%s says: %s", self._name, self.last_words)
