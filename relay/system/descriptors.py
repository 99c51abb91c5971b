"""File descriptors: a log server needs one for each connection, and some for its own files at any time."""

import contextlib
import resource
from typing import Final

MOST: Final = 65_536
"""More are not used, because the kernel's table grows with the highest one (listening sockets have the highest)."""
_USUAL: Final = 1024
RESERVE: Final = 128
"""Descriptors that no connection gets: for the spool, and relay's own sockets and files."""
_OF_THE_ARCHIVE: Final = 4096
"""The archive opens a log and a ledger for each originator, up to a quarter of the limit and so many at most."""


def descriptor_limit() -> int:
    """How many descriptors this process may have, at most `MOST`."""
    try:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:  # a filter of system calls
        return _USUAL
    return MOST if soft == resource.RLIM_INFINITY else min(soft, MOST)


def raise_descriptor_limit() -> int:
    """Raise this process's own limit to the hard limit, at most to `MOST`; returns the limit that is in effect."""
    limit = descriptor_limit()
    with contextlib.suppress(OSError, ValueError):  # a filter of system calls: the unit's LimitNOFILE is in effect
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
        if most > limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return descriptor_limit()


def descriptors_for_connections(limit: int) -> int:
    """How many connections that limit leaves room for; of a very small one they get a quarter."""
    return max(limit - min(limit // 4, _OF_THE_ARCHIVE) - RESERVE, limit // 4)
