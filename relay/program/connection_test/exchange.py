"""A test message on its way to a collector: what every protocol's exchange is given, and what it answers.

`send` is the step "test message", `prove` the step "proof". A ProtocolError names the collector, or the SSH server when
that is what was lost. Times are seconds.
"""

from typing import Final, NamedTuple, Protocol

from relay.errors import ProtocolError, UnavailableError
from relay.program.connection_test.report import StepFinding
from relay.transport import Pipe, Transport
from relay.values.address import Address

EXCERPT: Final = 64
"""Octets of what a stranger says that are worth keeping."""


class Proven(NamedTuple):
    """What there is of a proof."""

    kind: str
    """As `relay status` names it."""
    finding: StepFinding


class Exchange(Protocol):
    """One test message, handed over and proven."""

    def send(self) -> StepFinding:
        """Hand it over; what was sent."""
        ...

    def prove(self) -> Proven:
        """Wait for the proof, if any can be had."""
        ...


class CollectorConnection(NamedTuple):
    """A stream to a collector."""

    transport: Transport
    pipe: Pipe
    collector: Address
    gateway: str
    """Through whom the stream goes: `SSH server 192.0.2.1`; "" when it goes straight there."""
    patience: float
    """How long each answer is awaited."""

    def fault(self, cause: str, remedy: str) -> ProtocolError:
        """What the collector does wrong."""
        return ProtocolError(f"collector {self.collector}", cause, remedy)

    def loss(self, error: UnavailableError, cause: str, remedy: str) -> ProtocolError:
        """The collector's cause and remedy while the way to it stands, else the way's own."""
        if self.transport.alive:
            return self.fault(cause, remedy)
        return ProtocolError(self.gateway, error.cause, error.remedy)
