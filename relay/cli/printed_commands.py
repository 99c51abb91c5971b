"""Completes relay's commands in a text, so that they work as printed: from any folder, in any shell.

A text names a command between backquotes, with its own words alone: `relay key trust HOST`. It is completed with
- the name by which this relay was called,
- the configuration that is in use (`-c`, $RELAY_CONFIG, --router, --node),
- those options that name a folder or a file and that the command accepts too (--state, --archive, --known-hosts).

An option that the command has already is kept, and a completed text stays as it is. The names of the two programs,
`relay run` and `relay receive`, are completed only behind "start": elsewhere a sentence is about the program.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from relay.cli.lazy_group import LazyGroup
from relay.cli.options import Options
from relay.errors import RelayError

_COMMAND: Final = re.compile(r"(?<!start )`relay (?:run|receive)`|`(relay [^`]+)`")


@contextmanager
def completing(root: LazyGroup, given: Options) -> Iterator[None]:
    """While the block runs, every remedy is completed with the values that `given` has by then."""
    before = RelayError.complete
    called = program()
    RelayError.complete = staticmethod(lambda text: completed(text, root, given, called))
    try:
        yield
    finally:
        RelayError.complete = before


def completed(text: str, root: LazyGroup, given: Options, called: str) -> str:
    """The text with its commands completed; `called` is the name of the program."""

    def complete(found: re.Match[str]) -> str:
        if not found[1]:  # the name of a program in a sentence
            return found[0]
        own = found[1].removeprefix("relay")
        try:
            words = shlex.split(own)
        except ValueError:  # a quotation mark is not closed: this is not a command
            return found[0]
        if not words or words[0].startswith("-") or "--help" in words:
            return f"`{called}{own}`"
        command = root.find(words)
        if command is None:  # not a command of relay's
            return found[0]
        accepted = {option for parameter in command.params for option in parameter.opts}.difference(words)
        # They come before the command, because a command can have another option of the same name.
        before = [("--router", given.router), ("--node", given.node)] if "-c" in accepted else []
        behind = [*(("-c", os.path.abspath(path)) for path in given.named_config_paths), *given.paths.items()]
        behind = [(option, path) for option, path in behind if option in accepted]
        return f"`{called}{_written(before)}{own}{_written(behind)}`"

    return _COMMAND.sub(complete, text)


def program() -> str:
    """How to call this relay from any folder: by its name where the shell finds this very file, else by its path."""
    path = os.path.abspath(sys.argv[0])
    if os.path.basename(path) == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m relay"
    found = shutil.which("relay")
    if found is not None and os.path.exists(path) and os.path.samefile(found, path):
        return "relay"
    return shlex.quote(path) if os.access(path, os.X_OK) else f"{shlex.quote(sys.executable)} {shlex.quote(path)}"


def _written(options: Iterable[tuple[str, str]]) -> str:
    return "".join(f" {option} {shlex.quote(value)}" for option, value in options if value)
