"""A receiver whose real disk is full answers nobody, and recovers by itself; no kind of sender loses a message."""

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from harness.auditd import AudispRemote
from harness.openssh import Sshd
from harness.ports import LOOPBACK, listens
from harness.process import Process
from harness.receiver import Receiver, identities
from harness.relay import RELAY, Router, archived, audit_events
from harness.rsyslog import RsyslogForwarder
from harness.small_disk import SmallDisk
from harness.waiting import wait_until
from source.log_writing import records

CONFIGURATION = """\
[relay]
state-directory = "{state}"
[spool]
segment-size = "1MiB"
max-size = "8MiB"
[receiver]
listen = ["tcp://127.0.0.1:{port}", "udp://127.0.0.1:{port}"]
archive = "{archive}"
"""
FILLER = b"<14>1 - filler app - - - %b\n" % (b"x" * 2000)
FED = 10
DATAGRAMS = 500
UNANSWERED = "ended: its messages are not durable in time"
KINDS = 5
"""Of senders, of which three are audisp-remote."""
GIVEN_UP = 4
"""Streams of audisp-remote whose record is not answered in time: more than its tries for one record."""


class Senders:
    """audisp-remote with each `disk_full_action`, rsyslog's omrelp and relay; each sends numbered messages."""

    def __init__(self, auditd: Mapping[str, AudispRemote], rsyslog: RsyslogForwarder, router: Router) -> None:
        self._auditd = auditd
        self._rsyslog = rsyslog
        self._router = router
        self.sent = 0

    def send(self) -> None:
        """Send some more by each of them."""
        numbers = range(self.sent + 1, self.sent + FED + 1)
        self.sent += FED
        for action, client in self._auditd.items():
            beginning = f"node={action} type=USER_LOGIN msg=audit(1700000000.001:".encode()
            client.feed(b"%b%d): pid=1" % (beginning, n) for n in numbers)
        with socket.create_connection((LOOPBACK, self._rsyslog.port)) as program:
            program.sendall(b"".join(b"<14>1 2026-11-30T10:00:00Z web1 omrelp %d - - x\n" % n for n in numbers))
        with self._router.audit_log.open("ab") as log:
            log.write(records(numbers[0], numbers[-1]))

    def arrived(self, archive: Path) -> list[int]:
        """How many different messages of each sender are archived; relay's are archived once."""
        messages = archived(archive)
        own = [each for each in audit_events(messages) if b" combo1 " in each]
        assert len(own) == len(set(identities(own)))
        nodes = [rf" {name} .* serial=\"(\d+)\"".encode() for name in (*self._auditd, "combo1")]
        patterns = [*nodes, rb" omrelp (\d+) - "]
        return [len({found[1] for each in messages if (found := re.search(pattern, each))}) for pattern in patterns]


def program_of_exec(folder: Path) -> Path:
    """Make the program FILE.sh for `disk_full_action = exec`; it makes the file that is returned."""
    made = folder / "acted"
    program = made.with_suffix(".sh")
    program.write_text(f"#!/bin/sh\ntouch {made}\n")
    program.chmod(0o750)
    return made


def send_datagrams(port: int) -> None:
    """Send what nobody can send again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        for number in range(DATAGRAMS):
            device.sendto(b"<14>1 - device app %d - - by UDP" % number, (LOOPBACK, port))


def datagrams_accounted_for(archive: Path) -> int:
    """How many are archived, or counted in the receiver's gap events."""
    messages = archived(archive)
    gaps = [each for each in messages if b" GAP [" in each and b" combo1 " not in each]
    counted = [int(found[1]) for each in gaps if (found := re.search(rb' events="(\d+)"', each))]
    return len({each for each in messages if each.endswith(b"by UDP")}) + sum(counted)


@contextmanager
def receiving(receiver: Receiver, disk: SmallDisk) -> Iterator[Process]:
    configuration = receiver.folder / "relay.toml"
    keys = {"state": disk.folder / "state", "archive": receiver.archive, "port": receiver.port}
    configuration.write_text(CONFIGURATION.format(**keys))
    argv = [*disk.prefix, *RELAY, "receive", "-v", "-c", str(configuration)]
    with Process(argv, receiver.folder / "receive.log") as process:
        wait_until(lambda: listens(receiver.port) or not process.running, 60, lambda: process.log)
        yield process


@contextmanager
def filled(disk: SmallDisk, receiver: Receiver, process: Process) -> Iterator[None]:
    """Fill the disk, and the spool's segment by a sender that waits then."""
    fill = f"head -c 1G /dev/zero > {disk.folder}/filler"
    subprocess.run([*disk.prefix, "sh", "-c", fill], check=False, capture_output=True)
    with socket.create_connection((LOOPBACK, receiver.port)) as sender:
        sender.setblocking(False)

        def is_full() -> bool:
            with contextlib.suppress(BlockingIOError):
                sender.send(FILLER * 50)
            return "the spool cannot be written" in process.log

        wait_until(is_full, 60, lambda: process.log)
        yield


def test_nobody_is_answered_and_nothing_is_lost(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "server")
    with (
        SmallDisk(tmp_path / "disk", "12m") as disk,
        receiving(receiver, disk) as process,
        Sshd([f"PermitOpen 127.0.0.1:{receiver.port}"]) as sshd,
        contextlib.ExitStack() as clients,
        RsyslogForwarder(receiver.port, "relp") as rsyslog,
    ):
        router = Router(tmp_path, sshd, receiver.port, protocol="relp")
        acted = program_of_exec(tmp_path)
        auditd = {
            action.partition(" ")[0]: clients.enter_context(
                AudispRemote(receiver.port, max_tries_per_record=3, max_time_per_record=5, disk_full_action=action)
            )
            for action in ("syslog", "ignore", f"exec {acted.with_suffix('.sh')}")
        }
        senders = Senders(auditd, rsyslog, router)

        def wait_for_all() -> None:
            everything = [senders.sent] * KINDS
            wait_until(
                lambda: senders.arrived(receiver.archive) == everything,
                60,
                lambda: f"{everything}, not {senders.arrived(receiver.archive)}:\n{process.log}{relay.log}",
            )

        def given_up(streams: int) -> bool:
            return process.log.count(UNANSWERED) >= streams * len(auditd)

        router.audit_log.write_bytes(b"")
        with router.start() as relay:
            senders.send()
            wait_for_all()
            with filled(disk, receiver, process):
                send_datagrams(receiver.port)
                for count in range(1, GIVEN_UP + 1):
                    senders.send()  # audisp-remote connects again with its next record
                    wait_until(partial(given_up, count), 60, lambda: process.log)
                assert senders.arrived(receiver.archive) == [FED] * KINDS
                disk.run("rm", f"{disk.folder}/filler")
                senders.send()
                wait_for_all()
                wait_until(
                    lambda: datagrams_accounted_for(receiver.archive) == DATAGRAMS,
                    60,
                    lambda: f"{datagrams_accounted_for(receiver.archive)}\n{process.log}",
                )
            assert all(client.running for client in auditd.values())
            assert not acted.exists(), "DISKFULL was answered"
            relay.stop()
        assert not list(router.state.rglob("refused/*"))
        assert "Traceback" not in process.log
