"""Receiving: many senders at once into one receiver, until every message is in its files.

Each sender is an originator, and its messages are like relay's (RFC 5424, identity, one record each). A sender is done
when the receiver has closed after its half-close, or has answered its last RELP frame. The meaning of that close
differs: relay's means that everything is durable.
"""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.process import Workplace
from harness.records import generate
from harness.waiting import wait_until

from relay.events.audit.assembly import AuditEvent
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import Record, parse
from scripts.yardstick.far_end import compiled
from scripts.yardstick.receivers import RECEIVERS, Protocol, is_ready
from scripts.yardstick.table import markdown, median, median_and_spread
from scripts.yardstick.usage import Usage

HEADER: Final = (
    *("receiver", "set up as", "senders", "messages", "filed a second"),
    *("accepted a second", "µs CPU a message", "peak MB", "octets written a message"),
)
_OPEN: Final = b"relp_version=0\nrelp_software=loader\ncommands=syslog"
_MARK: Final = b" msg=audit("


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent: a framed file for each sender and protocol."""

    folder: Path
    senders: int
    messages: int
    """In all."""

    def files(self, protocol: Protocol) -> list[Path]:
        """The senders' files."""
        return [self.folder / f"{protocol}-{sender}" for sender in range(self.senders)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One receiver's one run."""

    messages: int
    senders: int
    came: int
    accepted: float
    """Seconds until the last sender was done."""
    filed: float
    """Seconds until the last message was in a file."""
    used: Usage


def make_load(folder: Path, messages: int, senders: int) -> Load:
    """Write the senders' files."""
    load = Load(folder=folder, senders=senders, messages=messages // senders * senders)
    lines = generate(messages // senders).splitlines()[: messages // senders]
    records = [record for record in map(parse, lines) if record is not None]
    for sender in range(senders):
        sent = _messages(sender, records)
        (folder / f"stream-{sender}").write_bytes(b"".join(b"%d %b" % (len(each), each) for each in sent))
        (folder / f"relp-{sender}").write_bytes(_relp(sent))
    return load


def _messages(sender: int, records: Sequence[Record]) -> list[bytes]:
    hostname = f"router{sender}"
    mapping = AuditMapping(hostname=hostname, router=hostname)
    run = b"%016x" % (0xBE7C << 32 | sender)
    events = (event for record in records for event in mapping.events(AuditEvent((record,))))
    return [
        b'%b relayRun="%b" relaySeq="%d"%b' % (event.head, run, number, event.tail)
        for number, event in enumerate(events, 1)
    ]


def _relp(messages: Sequence[bytes]) -> bytes:
    frames = [b"1 open %d %b\n" % (len(_OPEN), _OPEN)]
    frames += [b"%d syslog %d %b\n" % (number, len(each), each) for number, each in enumerate(messages, 2)]
    return b"".join(frames)


def measure(name: str, load: Load, limit: float) -> Run:
    """Run once; AssertionError when some message is not in the files after `limit` seconds."""
    kind = RECEIVERS[name]
    place = Workplace(f"yardstick-{name}")
    receiver = kind.make(place.path)
    loader = [str(compiled("loader")), str(receiver.port), kind.protocol, *map(str, load.files(kind.protocol))]
    try:
        with receiver.part as part:
            wait_until(lambda: is_ready(receiver), limit, lambda: part.log)
            os.sync()
            before, began = part.usage(), time.time()
            done = subprocess.run(loader, capture_output=True, text=True, timeout=limit, check=True)  # noqa: S603  our own
            wait_until(lambda: _came(receiver.files()) >= load.messages, limit, lambda: f"all is filed:\n{part.log}")
            return Run(
                messages=load.messages,
                senders=load.senders,
                came=_came(receiver.files()),
                accepted=float(done.stdout.split()[1]),
                filed=max(path.stat().st_mtime for path in receiver.files()) - began,
                used=part.usage() - before,
            )
    finally:
        place.remove()


def _came(files: Sequence[Path]) -> int:
    return sum(path.read_bytes().count(_MARK) for path in files)


def report(runs: Mapping[str, Sequence[Run]]) -> str:
    """The table of all runs."""
    return markdown(HEADER, [_row(name, each) for name, each in runs.items()])


def _row(name: str, runs: Sequence[Run]) -> list[str]:
    return [
        name,
        RECEIVERS[name].what,
        str(runs[0].senders),
        f"{runs[0].messages:,}" if all(run.came == run.messages for run in runs) else f"{runs[0].came:,} came",
        median_and_spread(runs, lambda run: run.messages / run.filed),
        median(runs, lambda run: run.messages / run.accepted),
        median(runs, lambda run: run.used.cpu * 1e6 / run.messages, 1),
        median(runs, lambda run: run.used.memory / 1e6),
        median(runs, lambda run: run.used.written / run.messages),
    ]
