"""A router whose disk is full, and what became of each event that its audit.log held.

The state directory is on a `SmallDisk`, the log is not; the collector is down until a test starts it. `account` is the
oracle: every event stands in the receiver's archive once, or is counted, by type and number, in a gap event that
stands there too: exactly.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from harness.openssh import Sshd
from harness.process import Process
from harness.receiver import Receiver, identities
from harness.records import closed, generate, serials
from harness.relay import RELAY, Router, archived, audit_events
from harness.small_disk import SmallDisk
from harness.waiting import wait_until

_LOST = re.compile(rb' lost="([0-9a-f]{16}) audit (\d+) (\d+) (\d+)"')
FULL = ("the spool cannot be written", "the oldest events are deleted undelivered")
"""What the log says of a full disk, or with `rotate`."""


class Account(NamedTuple):
    """What became of the events."""

    written: int
    """Into audit.log."""
    arrived: int
    missing: int
    """Not in the archive."""
    counted: int
    """By gap events in the archive."""
    doubled: int
    """Messages beyond one for each event."""

    @property
    def exact(self) -> bool:
        """Whether every event arrived once or is counted."""
        return self.missing == self.counted and not self.doubled


class FullRouter:
    """A router whose state directory is on a small disk, and its far end."""

    def __init__(self, folder: Path, sshd: Sshd, disk: SmallDisk, policy: str, *, records: int) -> None:
        self.receiver = Receiver(folder / "server")
        self.router = Router(folder, sshd, self.receiver.port)
        self.router.state = disk.folder / "state"
        self.stub = folder / "halts"
        """Made when a halt is asked for."""
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
        """`relay run`."""
        argv = [*self._disk.prefix, *RELAY, "-c", str(self.router.configuration), "run", *words]
        return Process(argv, self.router.folder / "relay.log")

    @staticmethod
    def is_full(relay: Process) -> bool:
        """Whether relay has met the full disk."""
        return any(text in relay.log for text in FULL)

    def status(self) -> dict[str, Any]:
        """`relay status --json`."""
        told = json.loads(self._disk.run(*RELAY, "-c", str(self.router.configuration), "status", "--json"))
        assert isinstance(told, dict)
        return told

    def lag(self) -> int:
        """Octets of audit.log that are not taken in, or counted, yet; -1 when none can tell."""
        live = self.status()["live"]
        return int(live["sources"][0]["lag"]) if live is not None and live["sources"] else -1

    def waiting(self) -> int:
        """Events before the server."""
        return sum(int(each["waiting_events"]) for each in self.status()["destinations"])

    def drain(self, seconds: int) -> None:
        """`relay run --drain`, whatever it comes to."""
        with self.start("--drain", "--timeout", str(seconds)) as relay:
            wait_until(lambda: not relay.running, seconds + 20, lambda: relay.log)

    def account(self) -> Account:
        """Of the events that were written, by what stands in the archive."""
        everything = archived(self.receiver.archive)
        messages = audit_events(everything)
        arrived = serials(b"\n".join(messages))
        assert len(messages) == len(identities(messages)), "every event has its identity"
        gaps = {message for message in everything if b" GAP [" in message}
        counted = sum(int(found[3]) for message in gaps for found in _LOST.findall(message))
        missing = len(self.written - arrived)
        doubled = len(messages) - len(arrived)
        return Account(len(self.written), len(arrived & self.written), missing, counted, doubled)
