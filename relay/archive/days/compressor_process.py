"""The compressor's child process, as `DayKeeper` uses it from its thread."""

import os
import subprocess
import sys
from contextlib import suppress
from typing import Final

import msgspec

from relay.archive.days.compressor import CompressionJob, CompressionResult
from relay.errors import UnavailableError

_MAIN: Final = "import sys; sys.path[:] = sys.argv[1:]; from relay.archive.days.compressor import main; main()"
"""It finds modules where this process does: an isolated Python (-I) ignores PYTHONPATH and the working directory."""
_GRACE_SECONDS: Final = 5.0


class CompressorProcess:
    """Started with the first job; `end` ends it. `kill` may be called by another thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while there is one."""
        return self._process.pid if self._process else None

    def compress(self, job: CompressionJob) -> CompressionResult:
        """Let it do a job, and wait for the result; UnavailableError when it cannot be started or ends."""
        try:
            if self._process is None or self._process.poll() is not None:
                self.end()
                self._process = subprocess.Popen(  # noqa: S603  no shell; Python and a fixed text
                    [sys.executable, "-I", "-c", _MAIN, *map(os.path.abspath, sys.path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            if self._process.stdin is None or self._process.stdout is None:
                raise OSError("no pipes")
            self._process.stdin.write(msgspec.json.encode(job) + b"\n")
            self._process.stdin.flush()
            return msgspec.json.decode(self._process.stdout.readline(), type=CompressionResult)
        except (OSError, msgspec.MsgspecError) as error:
            cause = f"its process cannot be started: {error}"
            if self._process is not None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE_SECONDS)
                cause = f"its process ended ({self._process.returncode})"
            raise UnavailableError(f"the compression of {job.path}", cause, "relay tries again") from error

    def kill(self) -> None:
        """End it at once; a job under way fails."""
        process = self._process
        if process is not None:
            process.kill()

    def end(self) -> None:
        """Let it end; nothing is under way."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
