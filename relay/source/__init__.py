"""Sources: where events come from, each with a position that survives a restart."""

from typing import Protocol

from relay.values.event import Position, Submit


class EventInput(Protocol):
    """What takes events in, with a position that is kept under its name."""

    @property
    def name(self) -> str:
        """A source's is the configured one."""

    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        """Give the events after the position; with `drain`, return once all there is now is durable."""

    def finish(self) -> float:
        """Ask `run` to return where it loses and repeats the least; after so many seconds it is cancelled all the same.

        0 where the position says everything, so that being cancelled costs nothing.
        """


class Source(EventInput, Protocol):
    """What every source is to `relay run`."""

    def adopt(self, other: "Source") -> bool:
        """Go on as `other` would do it, with everything that is connected; False when only `other` itself can."""

    @property
    def lag(self) -> int:
        """Octets that wait to be read; -1 when that cannot be told."""

    @property
    def open_events(self) -> int:
        """Events that are begun and not complete."""

    @property
    def malformed(self) -> int:
        """What could not be understood, and was forwarded as it is, marked."""

    @property
    def lost_places(self) -> int:
        """How often the place reached was gone, or something could not be read, in this run."""

    @property
    def last_error(self) -> str:
        """Why it cannot be read just now; empty while it can."""
