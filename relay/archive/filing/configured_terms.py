"""How the configuration wants messages to be filed. Pure."""

from datetime import tzinfo
from ipaddress import ip_network
from typing import TYPE_CHECKING

from relay.archive.filing.bound_names import NameBinding
from relay.archive.filing.filing_policy import FilingTerms

if TYPE_CHECKING:  # it takes 100 ms, and commands that are given an archive do not need it
    from relay.values.configuration.receiver_settings import ReceiverSettings


def filing_terms(receiver: "ReceiverSettings", zone: tzinfo) -> FilingTerms:
    """The terms of [receiver] and its tables; `zone` is what `receiver.zone` names."""
    bindings = (
        NameBinding(
            names=table.name,
            ssh_keys=frozenset(table.ssh_keys),
            certificates=frozenset(table.certificates),
            networks=tuple(ip_network(each) for each in table.networks),
            listeners=frozenset(table.listeners),
        )
        for table in receiver.originator
    )
    return FilingTerms(zone=zone, bindings=tuple(bindings))
