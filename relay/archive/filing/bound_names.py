"""Originators' names that are bound to what proves them: keys, certificates, networks, listeners. Pure.

A name that no binding covers is free: every sender may use it. A covered name is proven by a sender that has one of the
proofs of one of the bindings that cover it. Names are compared as DNS compares them: without case and without a dot at
the end, so that "FW1" is not free where "fw1" is bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from relay.values.address import canonical_host
from relay.values.glob_matcher import glob_matcher
from relay.values.provenance import Provenance

_FINGERPRINT: Final = "sha-256:"

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class NameBinding:
    """One table [[receiver.originator]]: names, and the proofs of which one is enough."""

    names: tuple[str, ...]
    """Names or globs."""
    ssh_keys: frozenset[str] = frozenset()
    """ "SHA256:…" """
    certificates: frozenset[str] = frozenset()
    """Fingerprints "sha-256:E1:2D:…" (RFC 5425 section 4.2.2), or names in the certificate."""
    networks: tuple[Network, ...] = ()
    listeners: frozenset[str] = frozenset()
    """The listeners' URLs; only an authorised sender can reach such a one."""

    def is_proven_by(self, sender: Provenance) -> bool:
        """Whether the sender has one of the proofs."""
        if sender.listener in self.listeners:
            return True
        if sender.identity in self.ssh_keys:
            return True
        fingerprint, *names = map(_plain, sender.identity.split(" "))
        for certificate in map(_plain, self.certificates):  # a name that looks like a fingerprint is not one
            if certificate == fingerprint or (certificate in names and not certificate.startswith(_FINGERPRINT)):
                return True
        return bool(self.networks) and _is_in(sender.peer, self.networks)

    @property
    def only_name(self) -> str | None:
        """The name, if the binding has only one and that is not a glob."""
        return self.names[0] if len(self.names) == 1 and not set(self.names[0]) & set("*?[") else None


class BoundNames:
    """All bindings of a receiver."""

    def __init__(self, bindings: Sequence[NameBinding] = ()) -> None:
        self._bindings = [(binding, glob_matcher([_plain(name) for name in binding.names])) for binding in bindings]

    def is_disputed(self, name: str, sender: Provenance) -> bool:
        """Whether the name is bound to other senders than this one."""
        covering = self._covering(name)
        return bool(covering) and not any(binding.is_proven_by(sender) for binding in covering)

    def is_bound(self, name: str) -> bool:
        """Whether a binding covers the name."""
        return bool(self._covering(name))

    def name_of(self, sender: Provenance) -> str | None:
        """The name that is bound to this sender; None without one, and where a binding leaves a choice."""
        for binding, _ in self._bindings:
            if binding.only_name and binding.is_proven_by(sender):
                return binding.only_name
        return None

    def _covering(self, name: str) -> list[NameBinding]:
        plain = _plain(name)
        return [binding for binding, covers in self._bindings if covers(plain)]


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _is_in(peer: str, networks: Sequence[Network]) -> bool:
    try:
        address = ip_address(canonical_host(peer).partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in networks)
