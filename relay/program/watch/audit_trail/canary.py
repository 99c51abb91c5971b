"""Whether audit records arrive, found out by relay's own test record, the canary. Pure.

Only a record that arrives proves the whole chain from the kernel to relay's source. After `SILENCE` without one, relay
sends a canary through the kernel, which must arrive within `ARRIVAL`. Until then another one follows every `REPEAT`,
because a daemon that is starting may drop one (seen with auditd 3.0.9); once they are missing, every `SILENCE`.

Any other record proves the chain as well. If records younger than the canaries arrive and no canary does, audit rules
exclude it: then silence proves nothing, and no more canaries are sent. A broken link that works again has not
delivered a record yet: records stay missing until one arrives, and a canary is sent at once. While relay accepts
nothing, silence is relay's own fault and does not count.

Times are microseconds of the boot clock (CLOCK_BOOTTIME).
"""

from dataclasses import dataclass, replace
from typing import Final

_SECOND: Final = 1_000_000
SILENCE: Final = 60 * _SECOND
ARRIVAL: Final = 20 * _SECOND
REPEAT: Final = 5 * _SECOND
EXCLUDED_AFTER: Final = 3
"""After so many canaries that did not arrive although younger records did, audit rules exclude them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """How long no record has arrived, and which canaries were sent since."""

    silent_since: int
    sent_at: int | None = None
    """When the last one was sent."""
    awaited_since: int | None = None
    """When the first canary that has not arrived was sent; None: none is awaited."""
    unanswered: int = 0
    """How many were sent since one arrived."""
    excluded: bool = False
    """Audit rules exclude it: none is sent or awaited any more."""

    @classmethod
    def begin(cls, now: int, *, records_missing: bool) -> "Canary":
        """Begin to listen; with `records_missing` they stay missing until one arrives."""
        if records_missing:
            return cls(silent_since=now - SILENCE, awaited_since=now - ARRIVAL)
        return cls(silent_since=now)

    def is_due(self, now: int) -> bool:
        """Whether one is to be sent now."""
        if self.excluded:
            return False
        last = self.silent_since if self.sent_at is None else max(self.silent_since, self.sent_at)
        under_way = self.sent_at is not None and self.awaited_since is not None and not self.is_missing(now)
        return now - last >= (REPEAT if under_way else SILENCE)

    def send(self, now: int) -> "Canary":
        """One is being sent."""
        since = now if self.awaited_since is None else self.awaited_since
        return replace(self, sent_at=now, awaited_since=since, unanswered=self.unanswered + 1)

    def fail(self, former: "Canary") -> "Canary":
        """Sending failed: only the canaries that `former` awaited are awaited still."""
        return replace(self, awaited_since=former.awaited_since, unanswered=former.unanswered)

    def arrive(self, now: int) -> "Canary":
        """The canary has arrived."""
        return Canary(silent_since=now, sent_at=self.sent_at)

    def note_record(self, now: int, *, younger: bool) -> "Canary":
        """Another record has arrived; `younger` than the last canary, which should have arrived before it."""
        if younger and self.unanswered >= EXCLUDED_AFTER:
            return Canary(silent_since=now, sent_at=self.sent_at, excluded=True)
        # Without a canary under way (relay may not be allowed to send one), none is awaited any more.
        return replace(self, silent_since=now, awaited_since=self.awaited_since if self.unanswered else None)

    def pause(self, now: int) -> "Canary":
        """Nothing can arrive at present: silence does not count. Records that are missing already stay missing."""
        return self if self.is_missing(now) else replace(self, silent_since=now)

    def is_missing(self, now: int) -> bool:
        """Whether one should have arrived by now."""
        if self.excluded or self.awaited_since is None:
            return False
        return now - max(self.awaited_since, self.silent_since) >= ARRIVAL
