"""Byte pipes to a collector.

A transport is an open way to one collector; a pipe is one stream on it. Both block, so they are used from the thread of
one destination only; `close` may be called from any thread and frees whoever is blocked. Bytes that `send` has taken
are on their way and prove nothing: a pipe is proven only when `drained` has returned and the transport's next `open`
has succeeded too.
"""

import time
from typing import Protocol

from relay.errors import TemporaryError

LARGEST_READ = 65536  # octets that one `receive` gives at most
SETTLING = 0.005
"""Seconds that a pipe is open at least before its half-close, where its opening does not say that it is taken."""


class Pipe(Protocol):
    """One stream to the collector."""

    local: bool
    """Whether it ends on this machine, where a forwarder may accept messages in the collector's place."""

    @property
    def ended(self) -> bool:
        """Whether the collector has ended its half of the stream, or the pipe is dead."""
        ...

    def send(self, data: bytes) -> None:
        """Send everything, blocking while the collector is slow. Cheap at 64 KB a call, dear at 300 bytes.

        UnavailableError when the pipe dies or the collector ends it; how much has arrived is then unknown.
        """
        ...

    def receive(self, timeout: float) -> bytes | None:
        """What the collector says, at most LARGEST_READ octets; None when nothing came in time.

        b"" at its end of file; UnavailableError when the pipe has died instead.
        """
        ...

    def half_close(self) -> None:
        """Say that no more comes, and go on listening.

        UnavailableError when the collector has ended the stream before us: nothing on it can be proven.
        """
        ...

    def drained(self, timeout: float) -> None:
        """Return once the collector has ended its half after ours; what it still says is thrown away.

        StillOpenError when it has not in time, UnavailableError when the pipe died instead: nothing is proven then.
        """
        ...

    def close(self) -> None:
        """Give the stream up; never raises."""
        ...


class StillOpenError(TemporaryError):
    """The collector has not closed the stream after our end of file: it is slow, or never closes."""


def drain(pipe: Pipe, timeout: float, what: str) -> None:
    """Wait for the end of file of a pipe that is half-closed; what it still says is thrown away."""
    deadline = time.monotonic() + timeout
    left = timeout
    while (data := pipe.receive(max(0.0, left))) and left > 0:
        left = deadline - time.monotonic()
    if data != b"":
        cause = f"the collector has not closed the connection {timeout:g} s after relay's end of file"
        raise StillOpenError(what, cause, "is it slow, or does it never close?")


class Transport(Protocol):
    """An open way to one collector."""

    @property
    def alive(self) -> bool:
        """Whether a pipe may still be opened; False is final."""
        ...

    def open(self) -> Pipe:
        """A new stream to the collector; UnavailableError when there is none to be had."""
        ...

    def close(self) -> None:
        """End every pipe at once; never raises."""
        ...
