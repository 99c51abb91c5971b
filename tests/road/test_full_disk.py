"""A real disk of 12 MB, more events than fit, a collector that is down, a kill while full: each policy keeps its word.

The oracle: every event that was written into audit.log stands in the receiver's archive once, or is counted by
type and number in a gap event that stands there too: exactly.
"""

import json
import re
from pathlib import Path

import pytest
from harness.openssh import Sshd
from harness.process import Process
from harness.receiver import Receiver, identities
from harness.records import generate, serials
from harness.relay import RELAY, Router, archived
from harness.small_disk import SmallDisk
from harness.waiting import wait_until

RECORDS = 25_000
LOST = re.compile(rb' lost="([0-9a-f]{16}) audit (\d+) (\d+) (\d+)"')


class FullRouter:
    """A router whose state directory is on a small disk, and its far end."""

    def __init__(self, folder: Path, sshd: Sshd, disk: SmallDisk, policy: str) -> None:
        self.receiver = Receiver(folder / "server")
        self.router = Router(folder, sshd, self.receiver.port)
        self.router.state = disk.folder / "state"
        self.router.write_configuration()
        self.stub = folder / "halts"
        with self.router.configuration.open("a") as configuration:
            configuration.write(f'[audit]\ndisk-full-action = "{policy}"\nspace-left = "0B"\n')
            configuration.write(f'halt-command = ["/usr/bin/touch", "{self.stub}"]\n[spool]\nsegment-size = "1MiB"\n')
        self.router.audit_log.write_bytes(generate(RECORDS))
        self.written = serials(self.router.audit_log.read_bytes())
        self._disk = disk

    def start(self, *words: str) -> Process:
        argv = [*self._disk.prefix, *RELAY, "-c", str(self.router.configuration), "run", *words]
        return Process(argv, self.router.folder / "relay.log")

    def has_read_everything(self) -> bool:
        """Whether all of audit.log is taken in; with ignore and rotate it is, however full the disk."""
        status = [*RELAY, "-c", str(self.router.configuration), "status", "--json"]
        live = json.loads(self._disk.run(*status))["live"]
        return live is not None and live["sources"][0]["lag"] == 0

    def counted(self) -> int:
        """Audit events that gaps in the archive count."""
        gaps = [message for message in archived(self.receiver.archive) if b" GAP [" in message]
        return sum(int(found[3]) for message in gaps for found in LOST.findall(message))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("policy", ["halt", "ignore", "rotate"])
def test_every_policy_keeps_its_word_whatever_happens_while_the_disk_is_full(tmp_path: Path, policy: str) -> None:
    with SmallDisk(tmp_path / "disk", "12m") as disk, Sshd() as sshd:
        full = FullRouter(tmp_path, sshd, disk, policy)
        with full.start() as relay:
            wait_until(lambda: "the spool cannot be written" in relay.log, 60, lambda: relay.log)
            if policy != "halt":
                wait_until(full.has_read_everything, 60, lambda: relay.log)
            relay.kill()
        with full.receiver.running():
            with full.start("--drain", "--timeout", "100") as relay:
                wait_until(lambda: not relay.running, 120, lambda: relay.log)
            with full.start("--drain", "--timeout", "60") as relay:  # what was counted last is told by now
                wait_until(lambda: not relay.running, 80, lambda: relay.log)
            messages = full.receiver.messages()
            arrived = serials(b"\n".join(messages))
            assert len(messages) == len(set(identities(messages))) == len(arrived), "nothing stands twice"
            lost = full.written - arrived
            if policy == "halt":
                assert lost == set()
                assert full.counted() == 0
            else:
                assert full.counted() == len(lost) > 0
        assert not full.stub.exists(), "never within a minute of its start"
