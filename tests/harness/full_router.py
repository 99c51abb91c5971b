"""A router whose disk is full, and the fate of each event in its audit.log.

The state directory is on a `SmallDisk`, the log is not. The collector does not run until a test starts it. `account` is
the oracle: every event is in the receiver's archive exactly once, or is counted, by type and sequence number, in a gap
event that is in the archive.
"""

import re
from pathlib import Path
from typing import NamedTuple

from harness.openssh import Sshd
from harness.process import Process
from harness.receiver import Receiver, identities
from harness.records import closed, generate, serials
from harness.relay import RELAY, Router, archived, audit_events, look, nothing_waits
from harness.small_disk import SmallDisk
from harness.waiting import wait_until
from relay.program.status.control_socket import ask

_LOST = re.compile(rb' lost="([0-9a-f]{16}) audit (\d+) (\d+) (\d+)"')
FULL = ("the spool cannot be written", "the oldest events are deleted undelivered")
"""The log's words about a full disk, or about `rotate`."""


class Account(NamedTuple):
    """The fate of the events."""

    written: int
    """Into audit.log."""
    arrived: int
    missing: int
    """Not in the archive."""
    counted: int
    """By gap events in the archive."""
    duplicated: int
    """Messages beyond one for each event."""

    @property
    def exact(self) -> bool:
        """Return whether every event arrived once or is counted."""
        return self.missing == self.counted and not self.duplicated


class FullRouter:
    """A router whose state directory is on a small disk, and its far end."""

    def __init__(self, folder: Path, sshd: Sshd, disk: SmallDisk, policy: str, *, records: int) -> None:
        self.receiver = Receiver(folder / "server")
        self.router = Router(folder, sshd, self.receiver.port)
        self.router.state = disk.folder / "state"
        self.stub = folder / "halts"
        """The file that relay makes when it requests a halt."""
        self.router.audit |= {
            "disk-full-action": policy,
            "space-left": "0B",
            "halt-command": ["/usr/bin/touch", str(self.stub)],
        }
        self.router.write_configuration()
        with self.router.configuration.open("a") as configuration:
            configuration.write('[spool]\nsegment-size = "1MiB"\n')
        self.router.audit_log.write_bytes(closed(generate(records)))
        self.written = serials(self.router.audit_log.read_bytes())
        self._disk = disk

    def start(self, *words: str) -> Process:
        """Return the running `relay run`."""
        argv = [*self._disk.prefix, *RELAY, "-c", str(self.router.configuration), "run", *words]
        return Process(argv, self.router.folder / "relay.log")

    @staticmethod
    def is_full(relay: Process) -> bool:
        """Return whether relay has met the full disk."""
        return any(text in relay.log for text in FULL)

    def lag(self) -> int:
        """Return the octets of audit.log that are neither accepted nor counted yet; -1 when nobody knows."""
        live = ask(str(self._disk.seen_from_here / "state"))
        return live.sources[0].lag if live is not None and live.sources else -1

    def waiting(self) -> int:
        """Return the number of events that wait for the server; -1 when nobody knows."""
        found = look(self._disk.seen_from_here / "state")
        return sum(each.waiting_events for each in found.destinations) if found is not None else -1

    def drain(self, seconds: int) -> None:
        """Run `relay run --drain`, with any result."""
        with self.start("--drain", "--timeout", str(seconds)) as relay:
            wait_until(lambda: not relay.running, seconds + 20, lambda: relay.log)

    def account(self) -> Account:
        """Compare the written events with the archive, which has everything that the receiver's spool accepted."""
        wait_until(lambda: nothing_waits(self.receiver.folder / "state"), 60, self.receiver.status)
        everything = archived(self.receiver.archive)
        messages = audit_events(everything)
        arrived = serials(b"\n".join(messages))
        assert len(messages) == len(identities(messages)), "every event has its identity"
        gaps = {message for message in everything if b" GAP [" in message}
        counted = sum(int(found[3]) for message in gaps for found in _LOST.findall(message))
        missing = len(self.written - arrived)
        duplicated = len(messages) - len(arrived)
        return Account(len(self.written), len(arrived & self.written), missing, counted, duplicated)
