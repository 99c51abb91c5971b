"""Run a program that is killed when the process that started it dies: `die_with_parent.py PARENT PROGRAM ARGUMENT…`.

A script of its own, since between fork and exec a process with threads may run no Python. A child that outlived relay
would go on moving its index file under the next one's feet. prctl(2): the signal is kept through exec, but not by a
program that is setuid or has capabilities of its own.
"""

import ctypes
import os
import signal
import sys
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1
_CANNOT_RUN: Final = 127


def main(parent: int, command: list[str]) -> NoReturn:
    """Become the program, unless the parent is dead already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == parent:
        try:
            os.execv(command[0], command)  # noqa: S606  no shell is meant to look at it
        except OSError as error:
            os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
    os._exit(_CANNOT_RUN)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
