"""relay's command line in a process of its own, forked from a server that has imported relay already.

A start of the interpreter with relay's imports takes ten times as long as most commands. The child has its own
descriptors, signals and end, as after `python -m relay`; what differs is its name in remedies that name the program.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_SERVER = """
import importlib, json, os, pkgutil, sys
from relay import cli
from relay.cli import commands

for module in pkgutil.iter_modules(commands.__path__, "relay.cli.commands."):
    importlib.import_module(module.name)
from relay.program import forwarder, receiver  # `relay run` and `relay receive` import them late

def child(words, paths):
    for descriptor, path in enumerate(paths):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, descriptor)
    try:
        code = cli.main(words)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    os._exit(code)

for line in sys.stdin:
    words, paths = json.loads(line)
    pid = os.fork()
    if pid == 0:
        child(words, paths)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class ForkedRelay:
    """The server; it runs in the `with` block, and each command in a child of it."""

    def __init__(self, folder: Path) -> None:
        self._outputs = folder / "stdout", folder / "stderr"
        argv = [sys.executable, "-c", _SERVER]
        self._server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate(timeout=60)

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run `relay WORDS` to its end, without input."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        json.dump([list(words), ["/dev/null", *map(str, self._outputs)]], self._server.stdin)
        self._server.stdin.write("\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        stdout, stderr = (path.read_text() for path in self._outputs)
        return subprocess.CompletedProcess(["relay", *words], code, stdout, stderr)
