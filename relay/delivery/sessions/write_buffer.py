"""Collects octets for large writes: a transport's `send` has a cost for each call."""

from collections.abc import Callable
from typing import Final

WRITE: Final = 64 * 1024


class WriteBuffer:
    """Passes on what is appended in calls of `write` with at least WRITE octets, or at a `flush`."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._octets = bytearray()

    def __len__(self) -> int:
        return len(self._octets)

    def append(self, octets: bytes) -> bool:
        """Append octets; whether they were written, because the buffer was full."""
        self._octets += octets
        is_full = len(self._octets) >= WRITE
        if is_full:
            self.flush()
        return is_full

    def flush(self) -> None:
        """Write the rest, if there is one. It is dropped when that fails, because the session is lost then."""
        if self._octets:
            octets = bytes(self._octets)
            self._octets.clear()
            self._write(octets)
