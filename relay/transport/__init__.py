"""Byte pipes to a collector.

A transport is an open route to one collector; a pipe is one stream on it. Both block, so only one destination's thread
uses them; `close` may be called from any thread and frees a thread that is blocked. Octets that `send` has accepted
prove nothing: a pipe is proven only when `drained` has returned and the transport's next `open` has succeeded too.
"""

import time
from typing import Protocol

from relay.errors import TemporaryError

LARGEST_READ = 65536
"""Octets that one `receive` returns at most."""
MAX_DISCARDED = 1 << 24
"""Octets that a collector may answer to a stream that is drained; syslog has no answers."""
LEAST_COUNTED = 64
"""Octets as which a shorter answer counts, because reading it costs as much."""
SETTLING = 0.005
"""Seconds between the opening of a pipe and its half-close, at least, if the opening does not prove acceptance."""


class Pipe(Protocol):
    """One stream to the collector."""

    local: bool
    """Whether it ends on this machine, where a forwarder may accept messages in the collector's place."""

    @property
    def ended(self) -> bool:
        """Whether the collector has ended its half of the stream, or the pipe is dead."""

    def send(self, data: bytes) -> None:
        """Send everything, blocking while the collector is slow. Cheap at 64 KB a call, expensive at 300 bytes.

        UnavailableError when the pipe dies or the collector ends it; how much has arrived is then unknown.
        """

    def receive(self, timeout: float) -> bytes | None:
        """The collector's next octets, at most LARGEST_READ; None when none arrived in time.

        b"" at its end of file; UnavailableError when the pipe has died instead.
        """

    def half_close(self) -> None:
        """End relay's half of the stream, and continue to receive.

        UnavailableError when the collector has ended the stream before: nothing on it can be proven.
        """

    def drained(self, timeout: float) -> None:
        """Return once the collector has ended its half after relay's; discard what it sends until then.

        StillOpenError when it has not in time, UnavailableError when the pipe died instead: nothing is proven then.
        """

    def close(self) -> None:
        """Abandon the stream; never raises."""


class Transport(Protocol):
    """An open route to one collector."""

    @property
    def alive(self) -> bool:
        """Whether a pipe may still be opened; False is final."""

    def open(self) -> Pipe:
        """A new stream to the collector; UnavailableError when it cannot be opened."""

    def close(self) -> None:
        """End every pipe at once; never raises."""


class StillOpenError(TemporaryError):
    """The collector has not closed the stream after our end of file: it is slow, or answers on, or never closes."""


def drain(pipe: Pipe, timeout: float, what: str) -> None:
    """Wait for the end of file of a half-closed pipe, and discard what the collector sends until then.

    StillOpenError also beyond MAX_DISCARDED: a server that somebody has taken over could keep relay busy with answers.
    """
    deadline = time.monotonic() + timeout
    left = timeout
    discarded = 0
    while (data := pipe.receive(max(0.0, left))) and left > 0:
        left = deadline - time.monotonic()
        discarded += max(len(data), LEAST_COUNTED)
        if discarded > MAX_DISCARDED:
            cause = (
                f"the collector answers without end (more than {MAX_DISCARDED} octets), although syslog has no answers"
            )
            raise StillOpenError(what, cause, "check what listens on the collector's port")
    if data != b"":
        cause = f"the collector has not closed the connection {timeout:g} s after relay's end of file"
        remedy = "look at the log server: its disk may be full, or its collector slow, or it never closes a connection"
        raise StillOpenError(what, cause, remedy)
