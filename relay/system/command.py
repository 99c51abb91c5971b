"""Another program, run to its end: no shell, nothing of relay's environment but PATH, a time limit.

What it prints is dropped: it may be anything, and a pipe would be held open by whatever it leaves behind.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence

from relay.errors import ConfigurationError, UnavailableError
from relay.values.text import quoted


def find(name: str) -> str | None:
    """The path of an executable file, found along PATH unless `name` is absolute; None when there is none."""
    return None if "/" in name and not os.path.isabs(name) else shutil.which(name)


def run(command: Sequence[str], *, patience: float, said: str = "") -> None:
    """Run it with `said` as its standard input; UnavailableError unless it exits 0 within `patience` seconds."""
    ended = code(command, patience=patience, said=said)
    if ended:
        how = f"exit code {ended}" if ended > 0 else f"signal {-ended}"
        raise UnavailableError(command[0], f"ended with {how}", "run it by hand, as relay's user, to see why")


def code(command: Sequence[str], *, patience: float, said: str = "") -> int:
    """Run it; its exit code, or the negative number of the signal that ended it. UnavailableError when it cannot be."""
    name = command[0]
    path = find(name)
    if path is None:
        raise UnavailableError(name, "there is no such program, or it is not executable")
    try:
        return subprocess.run(  # noqa: S603  no shell; the words are the configuration's or our own
            [path, *command[1:]],
            input=said.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            cwd="/",
            timeout=patience,
            check=False,
        ).returncode
    except OSError as error:
        raise UnavailableError(name, f"cannot be run: {os.strerror(error.errno or 0)}") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(name, f"did not end within {patience:g} s, and was killed") from error


def check_command(words: Sequence[str]) -> None:
    """ConfigurationError when the halt-command cannot be run; an empty one is the file."""
    if not words:
        return
    if any("\0" in word for word in words) or find(words[0]) is None:
        cause = f"{quoted(words[0])} is no program that relay's user can run"
        remedy = 'name it by its absolute path, as in ["/usr/sbin/shutdown", "-h", "now"]'
        raise ConfigurationError("audit.halt-command", (cause,), remedy)
