"""Run a command on a terminal: a pseudoterminal whose size, answers and output belong to the test."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class TerminalRun(NamedTuple):
    """How a command on a terminal ended, and all that it wrote there."""

    returncode: int
    text: str


def run_on_a_terminal(
    argv: Sequence[str],
    *,
    answers: str = "",
    columns: int = 0,
    environment: Mapping[str, str] | None = None,
    seconds: float = 60,
) -> TerminalRun:
    """Run `argv` with a terminal as its input and output, on which `answers` are typed.

    Line ends are LF. AssertionError when the command has not ended after `seconds`.
    """
    screen, terminal = pty.openpty()
    if columns:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal, env=environment) as child:
        os.close(terminal)
        os.write(screen, answers.encode())
        written = b""
        deadline = time.monotonic() + seconds
        try:
            while select.select([screen], [], [], max(0.0, deadline - time.monotonic()))[0]:
                written += os.read(screen, 1 << 16)
            child.kill()
            raise AssertionError(f"not within {seconds:g} s: {written!r}")
        except OSError:  # EIO: no process has the terminal open any more
            return TerminalRun(child.wait(seconds), written.decode().replace("\r\n", "\n"))
        finally:
            os.close(screen)
