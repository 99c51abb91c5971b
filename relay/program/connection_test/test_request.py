"""What a connection test is asked for, and how long it waits."""

from collections.abc import Sequence
from typing import NamedTuple

from relay.config.router.router_choice import ANY, RouterChoice


class WatchTimes(NamedTuple):
    """How long a collector that should do nothing is watched after a message, in seconds."""

    stream: float = 0.1
    """A collector of the wrong kind answers, or closes."""
    size: float = 0.3
    """A collector closes on a message that is too large."""
    tls: float = 0.0
    """A collector rejects relay's certificate after the handshake; a longer time is taken from the handshake's."""
    datagram: float = 0.5
    """A host refuses a datagram."""


class TestRequest(NamedTuple):
    """What to test, and how long to wait."""

    paths: Sequence[str]
    """The configuration's files."""
    server: str = ""
    """Its name; empty: every server."""
    send: bool = True
    sizes: bool = False
    """Whether to find the largest message that each server accepts."""
    timeout: float | None = None
    """Seconds for each step; None for the default of each."""
    choice: RouterChoice = ANY
    """Which router and node of a router's own configuration."""
    watch: WatchTimes = WatchTimes()
