"""Whose numbers and whose reports count for a run. Pure.

A sender is what was verified about the origin of a message, as `relay.archive.filing.proven_sender` writes it; all
senders of which nothing was verified are one, `UNVERIFIED`. Runs belong to senders:

- A run with numbers of one verified sender is that sender's. Numbers and reports of others do not count.
- A run with numbers of several verified senders is contested: nobody's report alone proves anything about it.
- A run with numbers of unverified senders alone is unverified. If one verified sender uses the originator's name, its
  reports about the run are proofs; other reports are not.
- A run without any number is known from reports alone. Those of the only verified sender of the name are proofs.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

UNVERIFIED: Final = ""
"""The sender of everything of which nothing was verified."""


class RunEvidence(NamedTuple):
    """Whose numbers and reports count for a run."""

    senders: tuple[str, ...]
    """Whose numbers are the run's."""
    witness: str | None
    """The sender whose reports are proofs, or None."""
    is_proven: bool
    """Whether the witness sent the numbers, or nobody did. Otherwise a number is missing only if a higher one is
    here and a report names it too."""


def run_evidence(senders: Collection[str], verified: Collection[str]) -> RunEvidence:
    """Judge a run with numbers of these senders, under a name that these verified senders use."""
    own = tuple(sorted(sender for sender in senders if sender))
    if len(own) == 1:
        return RunEvidence(own, own[0], is_proven=True)
    if own:
        return RunEvidence(own, None, is_proven=False)
    witness = next(iter(verified)) if len(verified) == 1 else None
    return RunEvidence((UNVERIFIED,), witness, is_proven=witness is not None and not senders)


def reporter_word(verified: Collection[str], *, has_reports: bool) -> str:
    """How the reports under a name are called: "verified", "contested", "unverified"; empty without any."""
    if not has_reports:
        return ""
    if not verified:
        return "unverified"
    return "verified" if len(verified) == 1 else "contested"
