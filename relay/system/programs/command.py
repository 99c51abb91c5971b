"""Running another program to its end: without a shell, without relay's rights and environment, with a time limit.

It has a session of its own, no open file of relay's, and the rights that the caller names (`child_rights`). At its time
limit every process of its process group is killed. Its output is dropped: it may be anything, and a process that it
leaves behind would keep a pipe open.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from relay.errors import ConfigurationError, UnavailableError
from relay.system.files.strict_modes import mode_objection
from relay.system.programs.child_rights import NO_RIGHTS, ChildRights, start
from relay.values.text import quoted

ALARM_EXAMPLE: Final = '["/usr/local/bin/report-alarm"]'
_KILL_SECONDS: Final = 3.0
_PASSED_ON: Final = ("PATH", "TZ")


def environment_of_children() -> dict[str, str]:
    """The variables that every program gets: PATH and TZ of relay's own, and one locale."""
    own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", **own}


def find(name: str) -> str | None:
    """The absolute path of an executable file, found along PATH unless `name` is one; None without one."""
    if "/" in name and not os.path.isabs(name):
        return None
    found = shutil.which(name)
    return found if found is not None and os.path.isabs(found) else None  # PATH may name the working directory


def run(
    command: Sequence[str],
    *,
    timeout: float,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    rights: ChildRights = NO_RIGHTS,
) -> None:
    """Run it with `stdin` as its standard input; UnavailableError unless it exits with 0 within `timeout` seconds.

    `environment` is added to the variables that every command gets.
    """
    ended = code(command, timeout=timeout, stdin=stdin, environment=environment, rights=rights)
    if ended:
        how = f"exit code {ended}" if ended > 0 else f"signal {-ended}"
        raise UnavailableError(command[0], f"ended with {how}", "run it by hand, as relay's user, to see why")


def code(
    command: Sequence[str],
    *,
    timeout: float,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    rights: ChildRights = NO_RIGHTS,
) -> int:
    """Run it and return its exit code, or the negative number of the signal that ended it.

    UnavailableError when it cannot be run, does not end within `timeout` seconds, or can be changed by other users.
    """
    name = command[0]
    path = find(name)
    if path is None:
        raise UnavailableError(name, "there is no such program, or it is not executable")
    if objection := mode_objection(path):
        raise UnavailableError(name, *objection)
    try:
        process = start([path, *command[1:]], environment_of_children() | dict(environment or {}), rights)
    except OSError as error:
        raise UnavailableError(name, f"cannot be run: {os.strerror(error.errno or 0)}") from error
    try:
        process.communicate(stdin.encode(), timeout)
    except subprocess.TimeoutExpired as error:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # it belongs to another user, as sudo does
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_KILL_SECONDS)
        raise UnavailableError(name, f"did not end within {timeout:g} s, and was killed") from error
    return process.returncode


def check_command(
    words: Sequence[str], key: str = "audit.halt-command", example: str = '["/usr/sbin/shutdown", "-h", "now"]'
) -> None:
    """ConfigurationError when the command of a key cannot be run; an empty one is not run."""
    if not words:
        return
    if any("\0" in word for word in words) or find(words[0]) is None:
        cause = f"{quoted(words[0])} is not a program that relay's user can run"
        raise ConfigurationError(key, (cause,), f"name it by its absolute path, as in {example}")
    if objection := mode_objection(find(words[0]) or words[0]):
        raise ConfigurationError(key, (objection.cause,), objection.remedy)
