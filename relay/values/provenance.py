"""Who sent a received message, and what its reception noted about it. Pure.

The spool stores both beside the messages, never inside them. The archive writes them into its ledger.
"""

import enum
from typing import NamedTuple


class Provenance(NamedTuple):
    """What a listener knows about a sender. Messages of one sender, identity and listener share one value."""

    peer: str
    """The sender's IP address without its port. For a Unix socket, the host name of this machine."""
    identity: str = ""
    """What was verified; empty: nothing. An SSH key is "SHA256:…", as `ssh-keygen -l` prints it. A certificate is its
    fingerprint "sha-256:E1:2D:…" (RFC 5425 section 4.2.2) and, after one space each, its names."""
    listener: str = ""
    """The listener's URL, such as "udp://0.0.0.0:514"."""
    protocol: str = "syslog"
    """"syslog", "relp" or "auditd"."""

    @property
    def via(self) -> str:
        """Listener and protocol, as the ledger has them."""
        return f"{self.listener} {self.protocol}"


class ReceiptMark(enum.IntFlag):
    """What reception noted about one message. The spool stores the bits, so they never change."""

    CUT = 1
    """It was longer than the limit; the rest was dropped and counted."""
    UNTERMINATED = 2
    """The stream ended without the message's trailer. It may be incomplete, because sshd turns a reset into an end."""
    FORWARDED = 4
    """It came through a router's relay from another program, so an identity in it is not that relay's."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names that the ledger has for the marks."""
        return tuple((mark.name or "").lower() for mark in ReceiptMark if mark in self)
