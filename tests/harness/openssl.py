"""OpenSSL's s_server, which does by typed commands what no collector does of its own accord."""

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
    """It listens from the `with` statement on; what it is sent, and what it says, goes to the file `said`."""

    def __init__(self, pair: Pair, said: Path, *options: str) -> None:
        """`options` are further ones of s_server's."""
        root = fetch(OPENSSL)
        self.port = free_port()
        self._said = said
        argv = [root.file("usr/bin/openssl"), "s_server", "-accept", f"{LOOPBACK}:{self.port}"]
        argv += ["-cert", str(pair.certificate), "-key", str(pair.key), *(options or ("-tls1_3",))]
        with said.open("wb") as output:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=root.environment()
            )

    def __enter__(self) -> Self:
        wait_until(lambda: listens(self.port, pid=self._process.pid), 60, self._said.read_text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def type(self, line: bytes) -> None:
        """Type into it: a command, or what the client is to get; return when it has read that.

        What it reads at once is one command, or none.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        wait_until(lambda: not _waiting(self._process.stdin), 60, "it to read")

    def wait_for(self, words: bytes) -> None:
        """Return when it has got these."""
        wait_until(lambda: words in self._said.read_bytes(), 60, self._said.read_text)


def _waiting(pipe: IO[bytes] | None) -> int:
    """How many octets nobody has read yet."""
    (octets,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))) if pipe else (0,)
    return int(octets)
