"""Does this machine's audit trail come in? Pure: what was seen in, the alarm that it calls for out.

The trail is a chain: the kernel audits, a daemon is registered with it and alive, its unit has not failed, and what it
writes reaches relay's source. The first links are looked at; what cannot be seen is None and raises nothing. Only a
record that arrives shows the whole chain. So when none has come for `SILENCE`, relay sends one of its own through the
kernel (the canary), which must be there within `PATIENCE`. Until then another one follows every `AGAIN`, for a daemon
that just starts may drop one (seen with auditd 3.0.9); while they are missing, every `SILENCE`.

Any record shows that the chain holds, even where no canary arrives: then audit rules keep it out. It is given up, for
silence tells nothing any more. A link that was broken and holds again is no record yet: the alarm stands until
one comes, and a canary is sent at once. While relay cannot take in, silence is its own and does not count.

Times are microseconds of the boot clock (CLOCK_BOOTTIME). The texts are fixed.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

from relay.values.alarm import AUDITD_DOWN, Alarm

_SECOND: Final = 1_000_000
SILENCE: Final = 60 * _SECOND
PATIENCE: Final = 20 * _SECOND
AGAIN: Final = 5 * _SECOND
ENOUGH: Final = 3
"""So many that did not arrive although younger records came are kept out."""

Unit = Literal["active", "inactive", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditdObservation:
    """The links that can be looked at; None: not by this user, or not on this machine."""

    enabled: bool | None = None
    """Whether the kernel audits."""
    daemon: bool | None = None
    """Whether a daemon is registered with the kernel and its process is there."""
    unit: Unit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """How long no record has come, and what was sent to find out why."""

    silent_since: int
    sent: int | None = None
    """When the last one left."""
    awaited_since: int | None = None
    """When the first one left of those that have not arrived; None: nothing is awaited."""
    unanswered: int = 0
    """How many left since one arrived."""
    given_up: bool = False
    """Rules keep it out: nothing is sent or missed any more."""

    @classmethod
    def begin(cls, now: int, *, standing: bool) -> "Canary":
        """Begin to listen; an alarm that stands, from before or for a broken link, stands until a record comes."""
        return cls(silent_since=now - SILENCE, awaited_since=now - PATIENCE) if standing else cls(silent_since=now)

    def is_due(self, now: int) -> bool:
        """Whether one is to be sent now."""
        last = self.silent_since if self.sent is None else max(self.silent_since, self.sent)
        under_way = self.sent is not None and self.awaited_since is not None and not self.is_missing(now)
        return not self.given_up and now - last >= (AGAIN if under_way else SILENCE)

    def leave(self, now: int) -> "Canary":
        """One is sent."""
        since = now if self.awaited_since is None else self.awaited_since
        return replace(self, sent=now, awaited_since=since, unanswered=self.unanswered + 1)

    def fail(self, former: "Canary") -> "Canary":
        """It could not be sent after all: what was awaited before is awaited still."""
        return replace(self, awaited_since=former.awaited_since, unanswered=former.unanswered)

    def arrive(self, now: int) -> "Canary":
        """It is there."""
        return Canary(silent_since=now, sent=self.sent)

    def hear(self, now: int, *, younger: bool) -> "Canary":
        """Other records came; `younger`: than the last one sent, which they should have followed."""
        if younger and self.unanswered >= ENOUGH:
            return Canary(silent_since=now, sent=self.sent, given_up=True)
        # Where none is on its way (it may not be sent), nothing is awaited any more.
        return replace(self, silent_since=now, awaited_since=self.awaited_since if self.unanswered else None)

    def hold(self, now: int) -> "Canary":
        """Nothing can come at present, and nothing is to be concluded from it: what is missing already stays so."""
        return self if self.is_missing(now) else replace(self, silent_since=now)

    def is_missing(self, now: int) -> bool:
        """Whether one should have arrived by now."""
        if self.given_up or self.awaited_since is None:
            return False
        return now - max(self.awaited_since, self.silent_since) >= PATIENCE


def alarm_wanted(sight: AuditdObservation, canary: Canary, now: int) -> Alarm | None:
    """The alarm `auditd-down` that this calls for, None for none."""
    text = broken_link(sight)
    if text is None and canary.is_missing(now):
        text = "no audit records come in"
    return Alarm(AUDITD_DOWN, "critical", text) if text else None


def broken_link(sight: AuditdObservation) -> str | None:
    """What is wrong with the links that can be seen; None: nothing."""
    if sight.enabled is False:
        return "the kernel's audit is switched off"
    if sight.daemon is False:
        return "no audit daemon takes the kernel's records"
    if sight.unit == "failed":
        return "the audit daemon's unit has failed"
    if sight.unit == "inactive" and sight.daemon is None:
        return "the audit daemon's unit is not running"
    return None
