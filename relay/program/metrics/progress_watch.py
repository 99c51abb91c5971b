"""Whether events still move: commits happen while events arrive, and proofs come while something waits. Pure.

Being alive is not enough: a program that waits for a full disk, or for a collector that accepts everything and proves
nothing, is unhealthy. An idle one is healthy. Only required servers count. All times are monotonic seconds.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

FAILING_SECONDS: Final = 10.0
"""A destination with an error is unhealthy so long after its last progress."""
STILL_SECONDS: Final = 300.0
"""The same without an error: a slow line may need long for one proof."""
COMMIT_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 10.0


class DestinationProgress(NamedTuple):
    """How far a destination is."""

    name: str
    required: bool
    reached: tuple[int, ...]
    """The next blocks to prove."""
    ends: tuple[int, ...]
    """The next blocks to be written."""
    error: str
    """Why it does not deliver; empty while it does."""


class IntakeProgress(NamedTuple):
    """How the intake is."""

    error: str
    """Why the spool cannot be written; empty while it can."""
    commit_began: float | None
    """When the commit that is under way began."""


class Health(NamedTuple):
    """The answer of the health check."""

    is_healthy: bool
    text: str
    """One line."""


class ProgressWatch:
    """Compares each look with those before it."""

    def __init__(self) -> None:
        self._moved: dict[str, tuple[tuple[int, ...], float]] = {}
        """Where each destination was, and when it last moved or had nothing to do."""
        self._destinations: Sequence[DestinationProgress] = ()
        self._intake = IntakeProgress("", None)

    def look(self, now: float, intake: IntakeProgress, destinations: Iterable[DestinationProgress]) -> None:
        """Note how far everything is."""
        self._intake, self._destinations = intake, tuple(destinations)
        former, self._moved = self._moved, {}
        for each in self._destinations:
            reached, since = former.get(each.name, (each.reached, now))
            is_waiting = any(at < end for at, end in zip(each.reached, each.ends, strict=True))
            self._moved[each.name] = (each.reached, since if is_waiting and reached == each.reached else now)

    def health(self, now: float, loop_seen: float) -> Health:
        """The health now; `loop_seen` is when the program's event loop last answered."""
        faults = []
        if now - loop_seen > SILENT_SECONDS:
            faults.append(f"relay does not answer for {now - loop_seen:.0f} s")
        began = self._intake.commit_began
        if self._intake.error:
            faults.append(f"the spool cannot be written: {self._intake.error}")
        elif began is not None and now - began > COMMIT_SECONDS:
            faults.append(f"the disk has not finished a commit for {now - began:.0f} s")
        for each in self._destinations:
            still = now - self._moved[each.name][1]
            if each.required and still >= (FAILING_SECONDS if each.error else STILL_SECONDS):
                because = f": {each.error}" if each.error else ""
                faults.append(f"{each.name}: nothing proven for {still:.0f} s{because}")
        if faults:
            return Health(is_healthy=False, text="; ".join(faults))
        waits = any(each.reached != each.ends for each in self._destinations)
        return Health(is_healthy=True, text="ok: proofs move" if waits else "ok: nothing waits")
