"""Whose a message is, before any folder is chosen: its HOSTNAME, a bound name, or its sender's address. Pure."""

from typing import NamedTuple

from relay.archive.filing.bound_names import BoundNames
from relay.values.address import canonical_host
from relay.values.provenance import Provenance
from relay.values.text import decoded


class ClaimedName(NamedTuple):
    """The originator of a message."""

    octets: bytes
    """The name; empty where neither the message nor its sender has one."""
    is_own: bool
    """Whether the message itself has it."""
    disputed: bool
    """Whether it is bound to another sender."""

    @property
    def text(self) -> str:
        r"""The name; octets that are not UTF-8 are written `\xHH`."""
        return decoded(self.octets)


def claimed_name(names: BoundNames, host: bytes | None, sender: Provenance | None) -> ClaimedName:
    """The originator of a message with this HOSTNAME; sender None: relay made it, or an old spool held it."""
    peer = canonical_host(sender.peer) if sender is not None else ""
    if sender is not None and sender.protocol == "auditd" and host and canonical_host(decoded(host)) == peer:
        host = None
    bound = names.name_of(sender) if sender is not None and not host else None
    octets = host or (bound or peer).encode()
    disputed = sender is not None and bool(octets) and names.is_disputed(decoded(octets), sender)
    return ClaimedName(octets, bool(host), disputed)
