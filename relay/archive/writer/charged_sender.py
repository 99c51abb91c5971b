"""To whom remembered identities are charged. Pure.

A verified sender is charged by its identity, any other one by the source that its address belongs to. The first octet
of the text distinguishes them, because the journal keeps it.
"""

from typing import Final

from relay.values.address import canonical_host, source_of

MAX_SENDER: Final = 200
RECEIVER: Final = ""
"""The receiver itself."""
_VERIFIED: Final = "="


def charged_sender(peer: str, identity: str | None) -> str:
    """The sender with that address, of which that was verified."""
    return f"{_VERIFIED}{identity}"[:MAX_SENDER] if identity else source_of(canonical_host(peer))[:MAX_SENDER]


def is_verified(sender: str) -> bool:
    """Whether something was verified about a sender; the receiver itself needs no proof."""
    return sender == RECEIVER or sender.startswith(_VERIFIED)


def described(sender: str) -> str:
    """The sender, for people."""
    return sender.removeprefix(_VERIFIED) or "the receiver itself"
