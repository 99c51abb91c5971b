"""The steps from a server's address to its proof, each reported by a session's parts as it ends.

`relay run` needs no report. `relay test-connection` prints these steps, so what it tests is the route of delivery.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple


class SessionStep(enum.Enum):
    """The steps in order; those from BANNER to FORWARD only through a port-forwarding."""

    PRIVATE_KEY = enum.auto()
    NAME_RESOLUTION = enum.auto()
    CONNECTION = enum.auto()
    BANNER = enum.auto()
    KEY_EXCHANGE = enum.auto()
    HOST_KEY = enum.auto()
    AUTHENTICATION = enum.auto()
    FORWARD = enum.auto()
    TLS = enum.auto()
    CERTIFICATE = enum.auto()
    MESSAGE = enum.auto()
    """Messages are sent, and the collector has shown no objection."""
    PROOF = enum.auto()


class StepFinding(NamedTuple):
    """What a step found, and whether it deserves a warning with its remedy."""

    found: str
    remedy: str = ""
    warning: bool = False


ReportStep = Callable[[SessionStep, StepFinding], None]
"""Called when a step has ended well. A RelayError that it raises ends the session."""


def report_nothing(step: SessionStep, finding: StepFinding) -> None:
    """For sessions that nobody watches."""
    del step, finding
