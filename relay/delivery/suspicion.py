"""Finds the message that stops delivery, if one does. Pure: losses and proofs in, a plan for the next session out.

A collector that ends the connection on a message, most often one larger than it accepts, would stop delivery for good.
A collector that is restarted or crashes ends connections too, and then no message is at fault. Therefore:

1. After a loss, everything is sent again. The unproven messages are suspected only when the same message is the first
   unproven one at `LOSSES` losses in a row.
2. Suspected messages are sent in intervals, each proven before the next begins: half of them at a time, or one at a
   time where the collector answers every message. Proven messages are no longer suspected; an interval that fails
   remains.
3. The last suspected message is sent alone, in a session of its own. When it fails, another message, the probe, is sent
   in a session of its own. Its proof shows that the collector works, and moves no cursor.
4. A message is at fault after `FAILURES` failures alone, each followed by the proof of a probe. When anything else
   failed in between (the SSH session, the connection, a probe), the collector or the network has another problem, and
   `FAILURES_AMID_OUTAGES` are needed.

The two spools are suspected one after the other: the order of the messages within a spool never changes.
"""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

LOSSES: Final = 2
FAILURES: Final = 3
FAILURES_AMID_OUTAGES: Final = 10


class FirstUnproven(NamedTuple):
    """The position of the first unproven message."""

    spool: int
    """0: retained, 1: transient."""
    block: int
    message: int
    """Its index in the block."""


class SessionLoss(NamedTuple):
    """The collector ended a session, or stopped answering, while messages were unproven."""

    first: FirstUnproven
    messages: tuple[int, int]
    """How many of each spool were unproven."""
    singly: bool
    """Whether this collector answers every message."""


class SendingPlan(NamedTuple):
    """The messages that the next session sends."""

    spool: int | None = None
    """Messages of this spool only; None: of both."""
    messages: int = 0
    """The most messages before each proof; 0: as many as usual."""
    probe: int | None = None
    """Only one message other than the suspected one: the best choice is 0, the next best 1, and so on."""


EVERYTHING_AS_USUAL: Final = SendingPlan()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """The state of the search; each method returns the state after an event."""

    first: FirstUnproven | None = None
    """At the last loss."""
    losses: int = 0
    """In a row, with that message first."""
    spool: int = 0
    suspected: int = 0
    """How many messages of that spool are suspected, from the cursor on; 0: none."""
    behind: int = 0
    """How many of the transient spool are suspected as well, after those of the retained one."""
    singly: bool = False
    failed: bool = False
    """Whether the last suspected message has just failed alone, so that a probe is next."""
    failures: int = 0
    """Failures of that message alone, each followed by the proof of a probe."""
    disturbed: bool = False
    """Whether something else failed in between."""
    probes: int = 0
    """Probes that failed since the last failure."""

    @property
    def plan(self) -> SendingPlan:
        """The messages that the next session sends."""
        if not self.suspected:
            return EVERYTHING_AS_USUAL
        if self.failed:
            return SendingPlan(self.spool, probe=self.probes)
        return SendingPlan(self.spool, 1 if self.singly else max(self.suspected // 2, 1))

    @property
    def alone(self) -> bool:
        """Whether only one message is left."""
        return self.suspected == 1

    @property
    def at_fault(self) -> bool:
        """Whether the collector does not accept the message at the cursor."""
        return self.failures >= (FAILURES_AMID_OUTAGES if self.disturbed else FAILURES)

    def lost(self, loss: SessionLoss) -> "Suspicion":
        """A session was lost while the transport to the collector was open."""
        if not self.suspected:
            losses = self.losses + 1 if self.first in {None, loss.first} else 1
            if losses < LOSSES:
                return Suspicion(first=loss.first, losses=losses)
            spool = loss.first.spool
            behind = 0 if spool else loss.messages[1]
            return Suspicion(
                first=loss.first, spool=spool, suspected=loss.messages[spool], behind=behind, singly=loss.singly
            )
        if self.failed:
            return self.unreached()
        if self.alone:
            return replace(self, failed=True)
        return replace(self, suspected=min(max(loss.messages[self.spool], 1), self.suspected), behind=0)

    def unreached(self) -> "Suspicion":
        """The transport to the collector broke, or could not be opened: this says nothing about a message."""
        if not self.alone:
            return self
        return replace(self, disturbed=True, probes=self.probes + self.failed)

    def proven(self, messages: int) -> "Suspicion":
        """Some of the suspected messages, or all, are proven."""
        if self.suspected > messages:
            return replace(self, suspected=self.suspected - messages)
        if self.behind:
            return Suspicion(first=self.first, spool=1, suspected=self.behind, singly=self.singly)
        return Suspicion() if self.suspected else self

    def probed(self) -> "Suspicion":
        """The probe is proven."""
        return replace(self, failed=False, failures=self.failures + 1, probes=0)

    def convicted(self) -> "Suspicion":
        """The cursor moves past the message at fault; the next message that fails is suspected at once."""
        return Suspicion(losses=LOSSES - 1)

    def knows_more_than(self, former: "Suspicion") -> bool:
        """Whether the next session should follow at once, because this one has narrowed the search."""
        return self != former and bool(former.suspected) and not self.disturbed
