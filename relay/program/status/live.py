"""The state of a running relay at one moment, as its control socket sends it. Pure.

Times are microseconds since the epoch, 0 for never.
"""

from typing import Final

import msgspec

WAITING_FOR_PROOF: Final = "waiting for a proof"
"""The state of a destination whose session is up, while a proof is due."""


class LiveDestination(msgspec.Struct, frozen=True, kw_only=True):
    """One destination's delivery at this moment."""

    name: str
    state: str
    error: str = ""
    """Why it does not deliver; empty while it does."""
    error_since: int = 0
    proofs: int = 0
    """Since the start."""
    damage: int = 0
    """Places in the spool that were skipped because of damage, since the start."""
    refused: int = 0
    """Messages that the server does not accept; they are kept in `refused/` and counted. Since the start."""
    largest_refused: int = 0
    """Octets of the largest message on which it ended every session; 0 without any."""


class LiveSource(msgspec.Struct, frozen=True, kw_only=True):
    """One source at this moment."""

    name: str
    lag: int
    """Bytes that are not read yet; -1: unknown."""
    open_events: int = 0
    """Events whose records have not all been read."""
    accepted: int = 0
    """Events made durable since the start."""
    refused: int = 0
    """Events that were refused because there was no space, and counted, since the start."""
    waits_for_space: bool = False
    """Whether it waits until the spool can be written again; then it is read further."""
    malformed: int = 0
    lost_places: int = 0
    error: str = ""


class LivePart(msgspec.Struct, frozen=True, kw_only=True):
    """A listener, the SSH end or a port forwarding: its state and its counters since the start."""

    name: str
    state: str = ""
    error: str = ""
    counters: dict[str, int] = {}


class LiveAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm that is raised."""

    name: str
    severity: str
    text: str
    about: str = ""
    """The server that it is about; empty for the machine."""
    since: int = 0


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `status`."""

    pid: int
    started: int
    intake_error: str = ""
    """Why sources wait, or why the spool cannot be written; empty while it can."""
    accepted: dict[str, int] = {}
    """Events made durable since the start, by type."""
    refused: dict[str, int] = {}
    """Events that no source can deliver again, and that were refused and counted since the start, by type."""
    destinations: tuple[LiveDestination, ...] = ()
    sources: tuple[LiveSource, ...] = ()
    parts: tuple[LivePart, ...] = ()
    alarms: tuple[LiveAlarm, ...] = ()
