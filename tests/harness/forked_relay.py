"""relay's command line in a process of its own, forked from a server that has imported relay already.

A start of the interpreter with relay's imports takes ten times as long as most commands. The child has its own
descriptors, signals and end, as after `python -m relay`, and the same name. Its environment is that of the server.
"""

import atexit
import functools
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_SERVER = """
import importlib, json, os, pkgutil, sys
import relay
from relay import cli
from relay.cli import commands

for module in pkgutil.iter_modules(commands.__path__, "relay.cli.commands."):
    importlib.import_module(module.name)
from relay.program import forwarder, receiver  # the commands import them late
from relay.program.connection_test import connection_test

def child(program, words, paths):
    for descriptor, path in enumerate(paths):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    sys.argv = [os.path.join(os.path.dirname(relay.__file__), "__main__.py"), *words]
    code = 0
    try:
        if program:
            exec(program, {"__name__": "__main__"})
        else:
            code = cli.main(words)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    request = json.loads(line)
    pid = os.fork()
    if pid == 0:
        child(*request)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class ForkedRelay:
    """The server; it runs in the `with` block, and each command in a child of it."""

    def __init__(self, folder: Path) -> None:
        self._outputs = folder / "stdout", folder / "stderr"
        argv = [sys.executable, "-c", _SERVER]
        self._server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._asking = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._server.communicate(timeout=60)

    def run(self, words: Sequence[str], program: str = "") -> subprocess.CompletedProcess[str]:
        """Run `relay WORDS` to its end, without input; or a program in Python, as `python -c PROGRAM WORDS` would."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with self._asking:
            request = [program, list(words), ["/dev/null", *map(str, self._outputs)]]
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            stdout, stderr = (path.read_text() for path in self._outputs)
        return subprocess.CompletedProcess(["relay", *words], code, stdout, stderr)


@functools.cache
def forked_relay() -> ForkedRelay:
    """Return a server that all tests of this process share; it ends with the process."""
    folder = tempfile.TemporaryDirectory(prefix="relay-test-forked-")
    server = ForkedRelay(Path(folder.name))
    atexit.register(folder.cleanup)
    atexit.register(server.close)
    return server
