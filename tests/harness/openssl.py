"""OpenSSL's s_server, which does on a typed command what collectors never do by themselves."""

import fcntl
import struct
import subprocess
import termios
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from harness.certificates import Pair
from harness.debian import OPENSSL, fetch
from harness.ports import LOOPBACK, free_port, listens
from harness.waiting import wait_until


class SServer:
    """It listens in the `with` block; what it receives and prints goes to the file `output`."""

    def __init__(self, pair: Pair, output: Path, *options: str) -> None:
        """`options` are further options of s_server."""
        root = fetch(OPENSSL)
        self.port = free_port()
        self._output = output
        argv = [root.file("usr/bin/openssl"), "s_server", "-accept", f"{LOOPBACK}:{self.port}"]
        argv += ["-cert", str(pair.certificate), "-key", str(pair.key), *(options or ("-tls1_3",))]
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, env=root.environment()
            )

    def __enter__(self) -> Self:
        wait_until(lambda: listens(self.port, pid=self._process.pid), 60, self._output.read_text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def type(self, line: bytes) -> None:
        """Type a command, or text for the client; return when s_server has read it.

        s_server takes what it reads at once as one command, or as none.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        wait_until(lambda: not _waiting(self._process.stdin), 60, "it to read")

    def wait_for(self, words: bytes) -> None:
        """Return when it has received these octets."""
        wait_until(lambda: words in self._output.read_bytes(), 60, self._output.read_text)


def _waiting(pipe: IO[bytes] | None) -> int:
    """Return the number of octets that are not read yet."""
    (octets,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))) if pipe else (0,)
    return int(octets)
