"""File descriptors: a log server needs one for each connection, and some for its own files at any time."""

import resource
from typing import Final

MOST: Final = 65_536
"""More are not used, because the kernel's table grows with the highest one (listening sockets have the highest)."""
RESERVE: Final = 256
"""Descriptors that no connection gets: for the spool, the archive, and relay's own sockets."""


def raise_descriptor_limit() -> int:
    """Raise this process's own limit to the hard limit, at most to `MOST`; returns the limit that is in effect."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def descriptors_for_connections(limit: int) -> int:
    """How many connections that limit leaves room for."""
    return max(limit - RESERVE, limit // 2)
