"""Under whom the numbers and reports of stored messages count: what was verified about their sender. Pure.

- A name that the configuration binds has one sender, `BOUND`: everybody with one of the proofs. Others are unverified.
- Any other name has a sender for each verified identity. A certificate is known by its names, because a renewed one has
  another fingerprint; one without names is known by its fingerprint.
- What the receiver's own program wrote has no sender's address. It is the sender `RECEIVER`.
"""

from typing import Final

from relay.archive.filing.bound_names import BoundNames
from relay.archive.ledger import Extent
from relay.values.provenance import Provenance

BOUND: Final = "the sender that the configuration names"
RECEIVER: Final = "the receiver itself"


def proven_sender(names: BoundNames, originator: str, extent: Extent) -> str:
    """The sender of an extent's messages; empty: nothing was verified that counts under this name."""
    if not extent.sender and not extent.via:
        return RECEIVER
    if not names.is_bound(originator):
        return identity_without_fingerprint(extent.identity or "")
    listener, _, protocol = extent.via.rpartition(" ")
    sender = Provenance(extent.sender, extent.identity or "", listener, protocol)
    return "" if names.is_disputed(originator, sender) else BOUND


def identity_without_fingerprint(identity: str) -> str:
    """The names in a certificate, if it has any; another identity as it is."""
    fingerprint, _, named = identity.partition(" ")
    return named or fingerprint
