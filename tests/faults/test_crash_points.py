"""relay dies at every named moment, by SIGKILL, with the real sshd between: nothing lost, nothing numbered twice.

The oracle is the archive of `relay receive`: every record that was written into audit.log stands there exactly once.
"""

from pathlib import Path

import pytest
from harness.openssh import Sshd
from harness.receiver import Receiver, identities
from harness.records import closed, generate, serials
from harness.relay import Router
from harness.waiting import wait_until

from relay.system.crash_point import POINTS

RECORDS = 9000
SMALL = """\
[spool]
segment-size = "1MiB"
max-size = "4MiB"
"""
FULL = {"disk-full-action": "halt", "halt-command": ["true"]}
FORWARDER = [point for point in POINTS if not point.startswith(("archive-", "torn-", "between-", "day-", "removal-"))]
CLOSED_DAYS = {"day-compressing", "day-compressed", "day-renamed", "removal-recorded"}
"""tests/archive/days has their tests."""
RECEIVER = [point for point in POINTS if point.startswith("archive-")]


class Road:
    """A router and a receiver with a small spool, so that segments come and go."""

    def __init__(self, folder: Path, sshd: Sshd) -> None:
        self.receiver = Receiver(folder / "server")
        self.router = Router(folder, sshd, self.receiver.port)
        self.router.audit |= FULL
        self.router.write_configuration()
        with self.router.configuration.open("a") as configuration:
            configuration.write(SMALL)
        self.router.audit_log.write_bytes(closed(generate(RECORDS)))
        self.events = serials(self.router.audit_log.read_bytes())

    def die_at(self, point: str, nth: int = 1) -> None:
        """Run the router until it dies at that moment, which must come."""
        with self.router.start(RELAY_CRASH_AT=f"{point}:{nth}") as relay:
            wait_until(lambda: not relay.running, 60, lambda: f"death at {point}:\n{relay.log}")

    def judge(self) -> None:
        """Let it finish, and compare."""
        done = self.router.drain()
        assert done.returncode == 0, done.stderr
        messages = self.receiver.wait_for_messages(len(self.events))
        assert serials(b"\n".join(messages)) == self.events
        assert len(messages) == len(set(identities(messages))) == len(self.events)
        verified = self.router.run("archive", "verify", str(self.receiver.archive))
        assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize("point", FORWARDER)
def test_the_forwarder_dies_and_nothing_is_lost_or_duplicated(tmp_path: Path, point: str) -> None:
    with Sshd() as sshd:
        road = Road(tmp_path, sshd)
        with road.receiver.running():
            road.die_at(point)
            road.judge()


@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("torn-")])
def test_the_forwarder_dies_again_while_it_cuts_a_torn_tail(tmp_path: Path, point: str) -> None:
    with Sshd() as sshd:
        road = Road(tmp_path, sshd)
        with road.receiver.running():
            road.die_at("block-half-written", 2)
            road.die_at(point)
            road.judge()


@pytest.mark.parametrize("point", RECEIVER)
def test_the_receiver_dies_and_nothing_is_lost_or_duplicated(tmp_path: Path, point: str) -> None:
    """At the second of these moments: the first comes with the receiver's own opening event."""
    with Sshd() as sshd:
        road = Road(tmp_path, sshd)
        with road.receiver.running(RELAY_CRASH_AT=f"{point}:2") as receiver, road.router.start() as relay:
            wait_until(lambda: not receiver.running, 60, lambda: f"death at {point}:\n{receiver.log}")
            relay.stop()
        with road.receiver.running():
            road.judge()


def test_a_crash_point_that_is_never_reached_kills_no_process(tmp_path: Path) -> None:
    with Sshd() as sshd:
        road = Road(tmp_path, sshd)
        with road.receiver.running(RELAY_CRASH_AT="no-such-moment:1"):
            road.judge()


def test_every_crash_point_has_a_test() -> None:
    """Only the moment between the two spools is reached in memory alone: no source gives transient events yet."""
    tested = {*FORWARDER, *RECEIVER, "torn-tail-copied", "torn-tail-cut", "between-the-spools", *CLOSED_DAYS}
    assert tested == set(POINTS)
