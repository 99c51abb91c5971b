"""What the tests of the audit room share: the seed's records, and how a stored message comes to be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from relay.events.audit.mapping import AuditMapping
from relay.values.event import Event

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def seed_lines() -> list[bytes]:
    """The 28 records of the documentation's examples; 26 of them end with a space."""
    return (_HERE / "seed.log").read_bytes().removesuffix(b"\n").split(b"\n")


@pytest.fixture(scope="session")
def golden() -> Callable[[str], bytes]:
    """Read one golden file: exactly the octets of one message."""
    return lambda name: (_HERE / "golden" / name).read_bytes()


@pytest.fixture
def mapping() -> AuditMapping:
    """The mapping of the documentation's router."""
    return AuditMapping(hostname="combo1", router="combo1", node="test1")


@pytest.fixture(scope="session")
def stored() -> Callable[[Event, int], bytes]:
    """Put an identity in, as the spool's writer does."""
    return lambda event, sequence: event.head + b' relayRun="0f1e2d3c4b5a6978" relaySeq="%d"' % sequence + event.tail
