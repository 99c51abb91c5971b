"""The mark of the channels that relay's own delivery opens, in a channel's originator address (RFC 4254 section 7.2).

Other programs of a router send through relay's port forwarding, or through an `ssh -L` of their own. What they send may
carry the identity (run and sequence number) of relay's messages, by mistake or on purpose, and a receiver would take
the router's own events for duplicates. relay's receiver honours such identities only in marked channels.

The mark is an address of the loopback network, because some SSH servers check that the originator is an IP address.
OpenSSH's sshd logs it and ignores it. `of_program` keeps local programs from having it: any of them could connect from
that address. The owner of a key that may log in can forge the mark; the key's fingerprint names that sender. Pure.
"""

from typing import Final

Originator = tuple[str, int]

OWN: Final[Originator] = ("127.114.108.121", 1)
"""127 and "rly"; the port is the mark's version."""
FORMER: Final[Originator] = ("127.0.0.1", 0)
"""What relay sent before it had the mark: a router may be upgraded after its receiver. No program has port 0."""
_LOOPBACK: Final = "127.0.0.1"


def is_own(originator: Originator) -> bool:
    """Whether a channel with this originator was opened by relay's own delivery."""
    return originator in {OWN, FORMER}


def of_program(originator: Originator) -> Originator:
    """The originator of a channel for a local program that connected from there."""
    host, port = originator
    return (_LOOPBACK, port) if host == OWN[0] else originator
