"""Running another program to its end: without a shell, with PATH only of relay's environment, with a time limit.

Its output is dropped: it may be anything, and a process that it leaves behind would keep a pipe open.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from relay.errors import ConfigurationError, UnavailableError
from relay.values.text import quoted

ALARM_EXAMPLE: Final = '["/usr/local/bin/report-alarm"]'


def find(name: str) -> str | None:
    """The path of an executable file, found along PATH unless `name` is absolute; None without one."""
    return None if "/" in name and not os.path.isabs(name) else shutil.which(name)


def run(
    command: Sequence[str], *, timeout: float, stdin: str = "", environment: Mapping[str, str] | None = None
) -> None:
    """Run it with `stdin` as its standard input; UnavailableError unless it exits with 0 within `timeout` seconds.

    `environment` is added to the variables that every command gets.
    """
    ended = code(command, timeout=timeout, stdin=stdin, environment=environment)
    if ended:
        how = f"exit code {ended}" if ended > 0 else f"signal {-ended}"
        raise UnavailableError(command[0], f"ended with {how}", "run it by hand, as relay's user, to see why")


def code(
    command: Sequence[str], *, timeout: float, stdin: str = "", environment: Mapping[str, str] | None = None
) -> int:
    """Run it and return its exit code, or the negative number of the signal that ended it.

    UnavailableError when it cannot be run, or does not end within `timeout` seconds.
    """
    name = command[0]
    path = find(name)
    if path is None:
        raise UnavailableError(name, "there is no such program, or it is not executable")
    try:
        return subprocess.run(  # noqa: S603  no shell; the words come from the configuration or from relay
            [path, *command[1:]],
            input=stdin.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **(environment or {})},
            cwd="/",
            timeout=timeout,
            check=False,
        ).returncode
    except OSError as error:
        raise UnavailableError(name, f"cannot be run: {os.strerror(error.errno or 0)}") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(name, f"did not end within {timeout:g} s, and was killed") from error


def check_command(
    words: Sequence[str], key: str = "audit.halt-command", example: str = '["/usr/sbin/shutdown", "-h", "now"]'
) -> None:
    """ConfigurationError when the command of a key cannot be run; an empty one is not run."""
    if not words:
        return
    if any("\0" in word for word in words) or find(words[0]) is None:
        cause = f"{quoted(words[0])} is not a program that relay's user can run"
        raise ConfigurationError(key, (cause,), f"name it by its absolute path, as in {example}")
