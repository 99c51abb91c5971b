"""`relay receive` as a log server, in four parts; run by ./scripts/receiving.

    originators   many senders, each an originator with a connection of its own, for some minutes: nothing is lost,
                  and memory stays flat
    idle          connections that send nothing: how much memory they cost
    cycles        connections that come and go: no descriptor, thread or memory is left behind
    kills         SIGKILL of the receiver under load, again and again: from relay nothing is lost or duplicated, from
                  rsyslog's omrelp nothing is lost; with "handing-on", nor in a second receiver behind the killed one

Memory is the proportional set size (PSS) of the receiver and its children. The exit code is 1 when a promise is broken.
"""

import argparse
import os
import random
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from harness.openssh import Sshd
from harness.ports import LOOPBACK
from harness.process import Workplace, descendants
from harness.rsyslog import RsyslogForwarder
from harness.waiting import wait_until

from scripts.yardstick.far_end import RelayReceive, Sink
from scripts.yardstick.forwarders import FORWARDERS
from scripts.yardstick.judge import Ledger, Verdict, judge
from scripts.yardstick.machine import machine
from scripts.yardstick.rig import Rig
from scripts.yardstick.soak import records
from scripts.yardstick.trial import finish
from scripts.yardstick.writing import Writing

MEBIBYTE: Final = 1024 * 1024
FLAT: Final = 8.0
"""MiB by which memory may be larger in the last quarter than in the second."""
KILLS_RATE: Final = 3000
MOST_WAITING: Final = 200_000
"""Records that are written and have not arrived; the kept generations of the log hold more."""
WAYS: Final = {"tcp": "relay", "tls": "relay-tls", "relp": "relay-relp", "ssh": "relay-ssh"}
"""How relay reaches the receiver in the part kills → the forwarder of `forwarders`."""
_PATIENCE: Final = 180.0
_QUIET: Final = 15.0
"""Seconds; omrelp tries again every second, and a little later each time."""
_NUMBER: Final = re.compile(rb" (originator-\d+) app 77 - - number=(\d+) ")


def memory_of(pid: int) -> float:
    """PSS of a process and its descendants in MiB."""
    return sum(_kibibytes(Path(f"/proc/{each}/smaps_rollup"), "Pss:") for each in (pid, *descendants(pid))) / 1024


def _kibibytes(file: Path, name: str) -> int:
    try:
        lines = (line.split() for line in file.read_text().splitlines())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(words[1]) for words in lines if words[0] == name), 0)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def _receiver(folder: Path) -> RelayReceive:
    """Ceilings are out of the way here, because they are not what is tried."""
    receiver = RelayReceive(folder)
    configuration = folder / "receiver.toml"
    configuration.write_text("[receiver]\nmax-connections = 20000\nmax-connections-per-address = 20000\n")
    receiver.argv += ["-c", str(configuration)]
    return receiver


def originators(count: int, rate: float, minutes: float) -> bool:
    """The part of that name."""
    place = Workplace("receiving-originators")
    try:
        with _receiver(place.path) as receiver:
            argv = [sys.executable, "-m", "scripts.yardstick.senders", str(receiver.port), str(count), str(rate)]
            begun = time.monotonic()
            samples: list[tuple[float, float]] = []
            with subprocess.Popen([*argv, str(minutes * 60)], stdout=subprocess.PIPE, text=True) as senders:  # noqa: S603  our own
                while senders.poll() is None:
                    samples.append((time.monotonic() - begun, memory_of(receiver.pid)))
                    time.sleep(1)
                sent, unaccepted = map(int, (senders.stdout.read() if senders.stdout else "0 0").split())
            seconds = time.monotonic() - begun
            kept: Counter[bytes] = Counter()

            def all_filed() -> bool:
                kept.clear()
                for path in receiver.kept():
                    kept.update(b"%b %b" % found for found in _NUMBER.findall(path.read_bytes()))
                return len(kept) >= sent

            wait_until(all_filed, _PATIENCE, lambda: f"{sent} messages are filed, not {len(kept)}:\n{receiver.log}")
            usage = receiver.usage()
    finally:
        place.remove()
    most = max(sample for _, sample in samples)
    second = max((m for at, m in samples if seconds / 4 <= at <= seconds / 2), default=0.0)
    last = max((m for at, m in samples if at >= seconds * 3 / 4), default=0.0)
    duplicated = sum(kept.values()) - len(kept)
    print(
        f"{count} originators, {rate:g} messages/s each, {seconds:.0f} s: {sent} sent, {sent - len(kept)} lost, "
        f"{duplicated} duplicated, {unaccepted} connections not accepted; "
        f"{usage.cpu * 1e6 / sent:.1f} µs CPU a message; "
        f"memory: {most:.0f} MiB at most, {second:.0f} in the second quarter, {last:.0f} in the last"
    )
    return not (sent - len(kept) or duplicated or unaccepted) and last <= second + FLAT


def _connected(port: int) -> socket.socket:
    return socket.create_connection((LOOPBACK, port))


def idle(count: int) -> bool:
    """The part of that name."""
    place = Workplace("receiving-idle")
    try:
        with _receiver(place.path) as receiver:
            before = memory_of(receiver.pid)
            base = _descriptors(receiver.pid)
            connections = [_connected(receiver.port) for _ in range(count)]
            wait_until(lambda: _descriptors(receiver.pid) >= base + count, 60, "every connection is accepted")
            after = memory_of(receiver.pid)
            for connection in connections:
                connection.close()
    finally:
        place.remove()
    cost = (after - before) * 1024 / count
    print(f"{count} idle connections: {before:.0f} MiB before, {after:.0f} MiB with them, {cost:.1f} KiB each")
    return True


def cycles(count: int) -> bool:
    """The part of that name; a cycle is a connection, a message, a half-close and the receiver's close."""
    place = Workplace("receiving-cycles")
    try:
        with _receiver(place.path) as receiver:
            _cycle(receiver.port, 200)  # what the first ones load stays
            before = (_descriptors(receiver.pid), _threads(receiver.pid), memory_of(receiver.pid))
            _cycle(receiver.port, count)
            wait_until(lambda: _descriptors(receiver.pid) <= before[0], 30, "no descriptor is left")
            after = (_descriptors(receiver.pid), _threads(receiver.pid), memory_of(receiver.pid))
    finally:
        place.remove()
    print(
        f"{count} connections that came and went: descriptors {before[0]} → {after[0]}, threads {before[1]} → "
        f"{after[1]}, memory {before[2]:.1f} → {after[2]:.1f} MiB"
    )
    return after[0] <= before[0] and after[1] <= before[1] and after[2] <= before[2] + FLAT


def _cycle(port: int, count: int) -> None:
    for number in range(count):
        with _connected(port) as connection:
            connection.sendall(b"<14>1 - host app - - - %d\n" % number)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b"", "the receiver closes"  # noqa: S101  as in tests/harness


def kills(way: str, rounds: int, seed: int) -> bool:
    """The part of that name, by one way."""
    if way == "omrelp":
        return _kills_under_omrelp(rounds, seed)
    if way == "handing-on":
        return _kills_while_handing_on(rounds, seed)
    with Sshd() as sshd, Rig(WAYS[way], sshd, "relay") as rig:
        verdict = _kills_under_relay(rig, rounds, seed)
    print(f"killed {rounds} times, {FORWARDERS[WAYS[way]].what}: {verdict}")
    return not (verdict.lost or verdict.duplicated or verdict.unknown)


def _kills_under_relay(rig: Rig, rounds: int, seed: int, second: RelayReceive | None = None) -> Verdict:
    """Kill the far end of a rig that runs; judge what it keeps, or what `second` behind it keeps."""
    last = second or rig.far_end
    with (rig.folder / "relay.toml").open("a") as configuration:
        configuration.write('[spool]\nmax-size = "64MiB"\nsegment-size = "4MiB"\n')
    rig.audit_log.touch()
    rig.forwarder.start()
    # What the log's rotation removes unread would be lost in the first file, so few records wait.
    with Writing(
        rig.audit_log,
        records(),
        rate=KILLS_RATE,
        rotate_at=64 * MEBIBYTE,
        most=lambda: last.seen + MOST_WAITING,
    ) as writing:
        _kill_again_and_again(rig.far_end, rounds, seed, lambda: rig.forwarder.log)
        writing.stop()
    wait_until(
        lambda: last.records >= writing.written.records,
        _PATIENCE,
        lambda: f"{last.records} of {writing.written.records} arrived:\n{rig.forwarder.log}\n{rig.far_end.log}",
    )
    finish(rig)
    return judge(writing.written, Ledger().take_files(last.kept()))


def _kills_while_handing_on(rounds: int, seed: int) -> bool:
    """Kill a receiver that hands on to a second one; what both keep is judged."""
    place = Workplace("receiving-second")
    try:
        with Sshd() as sshd, RelayReceive(place.path) as second:
            rig = Rig(WAYS["relp"], sshd, "relay")
            hub, configuration = rig.far_end, rig.folder / "hub.toml"
            server = f'name = "second"\nport = {second.port}\nprotocol = "relp"\nmax-message-size = "1MiB"\n'
            configuration.write_text(f"[receiver]\n[[remote-logging-server]]\n{server}")
            hub.argv += ["-c", str(configuration)]
            with rig:
                verdict = _kills_under_relay(rig, rounds, seed, second)
                second.stop()
                kept = [Counter(_messages(receiver.kept())) for receiver in (hub, second)]
    finally:
        place.remove()
    equal = "equal" if kept[0] == kept[1] else "NOT EQUAL"
    print(f"killed {rounds} times, handing on to a second receiver: {verdict}; both archives are {equal}")
    return not (verdict.lost or verdict.duplicated or verdict.unknown) and kept[0] == kept[1]


def _messages(files: Sequence[Path]) -> Iterator[bytes]:
    """The audit events in an archive's files, as lines."""
    for file in files:
        yield from (line for line in file.read_bytes().splitlines() if b" msg=audit(" in line)


def _kill_again_and_again(far_end: RelayReceive | Sink, rounds: int, seed: int, log: Callable[[], str]) -> None:
    """Kill it at a random moment after something new arrived, and start it again."""
    chance = random.Random(seed)  # noqa: S311  a moment, no secret
    for _ in range(rounds):
        before = far_end.records
        wait_until(lambda: far_end.records > before, _PATIENCE, lambda: f"something new:\n{log()}\n{far_end.log}")  # noqa: B023
        time.sleep(chance.uniform(0, 0.4))
        far_end.kill()
        far_end.start()


def _until_quiet(receiver: RelayReceive) -> None:
    """Return when nothing has arrived for a while."""
    arrived, since = receiver.records, time.monotonic()
    while time.monotonic() - since < _QUIET:
        time.sleep(0.2)
        if receiver.records != arrived:
            arrived, since = receiver.records, time.monotonic()


def _kills_under_omrelp(rounds: int, seed: int) -> bool:
    place = Workplace("receiving-omrelp")
    try:
        with _receiver(place.path) as receiver, RsyslogForwarder(receiver.port, "relp") as rsyslog:
            log = place.path / "records"
            log.touch()
            with (
                Writing(log, records(), rate=KILLS_RATE, rotate_at=1 << 40) as writing,
                _connected(rsyslog.port) as connection,
            ):
                with _Pump(log, connection):
                    _kill_again_and_again(receiver, rounds, seed, lambda: "")
                    writing.stop()
                _until_quiet(receiver)  # what omrelp sends twice is not what is still to come
            receiver.stop()
            verdict = judge(writing.written, Ledger().take_files(receiver.kept()))
    finally:
        place.remove()
    print(f"killed {rounds} times, rsyslog's omrelp: {verdict}")
    return not (verdict.lost or verdict.unknown)


class _Pump:
    """Sends each line that appears in a file to a connection; leaving the block sends the rest."""

    def __init__(self, log: Path, connection: socket.socket) -> None:
        self._log, self._connection = log, connection
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        with self._log.open("rb") as file:
            unfinished = b""
            while True:
                last = self._ending.is_set()
                *lines, unfinished = (unfinished + file.read()).split(b"\n")
                for line in lines:
                    self._connection.sendall(b"<14>1 2026-11-30T10:00:00Z combo1 auditd - - - %b\n" % line)
                if last:
                    return
                self._ending.wait(0.05)


def main(words: Sequence[str]) -> int:
    """Run the chosen part; return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/receiving", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    many = parts.add_parser("originators")
    many.add_argument("--count", type=int, default=1000)
    many.add_argument("--rate", type=float, default=10.0, help="messages a second, each")
    many.add_argument("--minutes", type=float, default=5.0)
    parts.add_parser("idle").add_argument("--count", type=int, default=5000)
    parts.add_parser("cycles").add_argument("--count", type=int, default=2000)
    killing = parts.add_parser("kills")
    killing.add_argument(
        "--by", choices=[*WAYS, "omrelp", "handing-on"], action="append", help="repeatable (default: all)"
    )
    killing.add_argument("--rounds", type=int, default=200)
    killing.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(words)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    match chosen.part:
        case "originators":
            kept = originators(chosen.count, chosen.rate, chosen.minutes)
        case "idle":
            kept = idle(chosen.count)
        case "cycles":
            kept = cycles(chosen.count)
        case _:
            results = [kills(way, chosen.rounds, chosen.seed) for way in chosen.by or [*WAYS, "omrelp", "handing-on"]]
            kept = all(results)
    print(machine())
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
