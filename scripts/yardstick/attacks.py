"""Attacks on `relay receive` from one address; run by ./scripts/attacks.

Three relays at 127.0.0.1 deliver audit records, by relay's own SSH end, by TLS and by RELP. Probes measure what any
other sender would see: a RELP session waits for the answer to one message at a time, and SSH logins follow each other.
Each attack comes from one address of its own, from 127.0.0.2 on, so that none begins with the penalty of another. To
the receiver these are strangers, because `exempt-networks` has 127.0.0.1 alone. The local attacks come from there. The
attackers run at nice 19, because they use the same processors as the receiver.

With --random, one to three attacks at once follow each other for --minutes, without rests, and the table has one row:
the worst of each figure, and of connections and log lines the sum.

The exit code is 1 when a number of `Limits` is not reached, or a record is lost.
"""

import argparse
import contextlib
import json
import logging
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import paramiko
from harness.certificates import SERVER
from harness.ports import LOOPBACK
from harness.process import Process, Workplace
from harness.relay import RELAY
from harness.waiting import wait_until
from typing_extensions import override

from scripts.yardstick.attacker import ATTACKS, Ports
from scripts.yardstick.far_end import RelayReceive, authority
from scripts.yardstick.machine import machine
from scripts.yardstick.receiving import memory_of
from scripts.yardstick.soak import records
from scripts.yardstick.table import markdown
from scripts.yardstick.writing import Writing

WAYS: Final = ("ssh", "tls", "relp")
HEADER: Final = (
    *("attack", "connections begun", "delivered/s before", "delivered/s", "p99 of acceptance before, ms"),
    *("p99 of acceptance, ms", "longest refused login, s", "memory, MiB", "log lines", "normal after, s"),
)
_INTERVAL: Final = 0.02
"""Seconds between two messages of the RELP probe."""
_LOGIN_INTERVAL: Final = 0.2
_SAMPLE: Final = 0.25
_NORMAL: Final = 0.2
"""Seconds: all is normal when three acceptances in a row and a login take less."""
_SHORT: Final = 10.0
"""Seconds for which the undisturbed rate is measured; before each attack, unless the attacks are shorter."""
_LONG: Final = 30.0
_SHORTEST: Final = 2.0
_PATIENCE: Final = 60.0


class Limits(NamedTuple):
    """What must be reached under each attack."""

    delivered: float = 0.9
    """Of what was delivered before."""
    acceptance: float = 0.2
    login: float = 2.0
    memory: float = 200.0
    """MiB."""
    lines: int = 100
    normal: float = 5.0


class Calm(NamedTuple):
    """What was seen without an attack."""

    delivered: float
    """Records a second."""
    acceptance: float
    """The 99th percentile, in seconds."""


class Outcome(NamedTuple):
    """What was seen during attacks."""

    what: str
    connections: int
    before: Calm
    delivered: float
    acceptance: float
    login: float
    memory: float
    lines: int
    normal: float

    def row(self) -> list[str]:
        """The row of the table."""
        return [
            *(self.what, f"{self.connections:,}", f"{self.before.delivered:,.0f}"),
            *(f"{self.delivered:,.0f}", f"{self.before.acceptance * 1000:.0f}"),
            *(f"{self.acceptance * 1000:.0f}", f"{self.login:.1f}", f"{self.memory:.0f}", str(self.lines)),
            f"{self.normal:.1f}",
        ]

    def faults(self, limits: Limits) -> list[str]:
        """What was not reached."""
        least = limits.delivered * self.before.delivered
        missed = {
            f"delivered {self.delivered:.0f}/s of {least / limits.delivered:.0f}": self.delivered < least,
            f"p99 of acceptance {self.acceptance * 1000:.0f} ms": self.acceptance > limits.acceptance,
            f"login refused for {self.login:.1f} s": self.login > limits.login,
            f"memory {self.memory:.0f} MiB": self.memory > limits.memory,
            f"{self.lines} log lines": self.lines > limits.lines,
            f"normal after {self.normal:.1f} s": self.normal > limits.normal,
        }
        return [f"{self.what}: {what}" for what, is_missed in missed.items() if is_missed]


def worst_of(outcomes: Sequence[Outcome]) -> Outcome:
    """The worst of each figure; connections and log lines are added up."""
    return Outcome(
        *("the worst of all", sum(each.connections for each in outcomes), outcomes[0].before),
        *(min(each.delivered for each in outcomes), max(each.acceptance for each in outcomes)),
        *(max(each.login for each in outcomes), max(each.memory for each in outcomes)),
        *(sum(each.lines for each in outcomes), max(each.normal for each in outcomes)),
    )


class RelpProbe:
    """One RELP session, in which each message waits for its answer."""

    def __init__(self, port: int) -> None:
        self.waited: list[float] = []
        """Seconds, of each message; a broken session is repeated, and its time counts."""
        self._port = port
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        session: _RelpSession | None = None
        while not self._stopped.wait(_INTERVAL):
            begun = time.monotonic()
            while not self._stopped.is_set():
                try:
                    session = session or _RelpSession(self._port)
                    session.send()
                    break
                except OSError:
                    if session is not None:
                        session.close()
                    session = None
                    time.sleep(_INTERVAL)
            self.waited.append(time.monotonic() - begun)
        if session is not None:
            session.close()


class _RelpSession:
    """Messages that are answered one by one."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), timeout=_PATIENCE)
        self._number = 1
        self._exchange(b"open", b"relp_version=0\nrelp_software=probe\ncommands=syslog")

    def send(self) -> None:
        """Return when a message is accepted."""
        self._exchange(b"syslog", b"<13>1 - probe app - - - %d" % self._number)

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def _exchange(self, command: bytes, body: bytes) -> None:
        self._socket.sendall(b"%d %b %d %b\n" % (self._number, command, len(body), body))
        self._number += 1
        answer = b""
        while not answer.endswith(b"\n") or b" 200 OK" not in answer:
            if not (data := self._socket.recv(4096)):
                raise ConnectionResetError
            answer += data


class LoginProbe:
    """SSH logins, one after the other."""

    def __init__(self, receiver: RelayReceive) -> None:
        assert receiver.ssh_end is not None, "it has an SSH end"  # noqa: S101  as in tests/harness
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # an attempt that fails is a figure here
        self._end = receiver.ssh_end
        self._key = paramiko.Ed25519Key(filename=str(self._end.client_key))
        self.refused: list[float] = []
        """Seconds from the first attempt to the login."""
        self.causes: list[str] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_LOGIN_INTERVAL):
            begun = time.monotonic()
            while not self._stopped.is_set() and not self._logs_in():
                time.sleep(_LOGIN_INTERVAL)
            self.refused.append(time.monotonic() - begun)

    def _logs_in(self) -> bool:
        try:
            with socket.create_connection((self._end.host, self._end.port), timeout=5) as connection:
                transport = paramiko.Transport(connection)
                try:
                    transport.start_client(timeout=5)
                    transport.auth_publickey(self._end.user, self._key)
                finally:
                    transport.close()
        except (OSError, paramiko.SSHException, EOFError) as error:
            self.causes.append(str(error))
            return False
        return True


class LegitimateRelay:
    """`relay run` that delivers one audit log in one way, under a name of its own."""

    def __init__(self, folder: Path, way: str, receiver: "AttackedReceiver", rate: float) -> None:
        self.name = f"router-{way}"
        self._folder = folder / self.name
        self._folder.mkdir()
        log, configuration = self._folder / "audit.log", self._folder / "relay.toml"
        log.touch()
        configuration.write_text(self._configured(way, log, receiver))
        argv = [*RELAY, "-c", str(configuration), "run"]
        self.process = Process(argv, self._folder / "relay.log")
        self.writing = Writing(log, records(), rate=rate, rotate_at=64 << 20)

    def _configured(self, way: str, log: Path, receiver: "AttackedReceiver") -> str:
        end, port = receiver.ssh_end, receiver.ports.tls if way == "tls" else receiver.ports.tcp
        assert end is not None, "it has an SSH end"  # noqa: S101  as in tests/harness
        server: dict[str, object] = {"address": LOOPBACK, "port": port}
        lines: list[str] = []
        if way == "tls":
            server |= {"transport": "tls", "ca": str(authority(receiver.folder)), "server-name": SERVER}
        elif way == "relp":
            server |= {"protocol": "relp"}
        else:
            forwarding = {
                "local-port": port,
                "remote-port": port,
                "server-address": end.host,
                "server-port": end.port,
                "username": end.user,
                "private-key": str(end.client_key),
                "known-hosts": str(end.known_hosts),
            }
            lines = ["[[port-forwarding]]", *_toml(forwarding)]
        return "\n".join(
            (
                *("[relay]", f'hostname = "{self.name}"', f'state-directory = "{self._folder}/state"'),
                *("[audit]", 'watch-auditd = "never"'),
                *("[[source]]", 'name = "audit"', 'type = "audit-log"', f'path = "{log}"'),
                *(*lines, "[[remote-logging-server]]", *_toml(server), ""),
            )
        )


def _toml(values: dict[str, object]) -> Iterator[str]:
    return (f"{key} = {json.dumps(value)}" for key, value in values.items())


class AttackedReceiver(RelayReceive):
    """`relay receive` with listeners for TCP, TLS and SSH, to which all but 127.0.0.1 are strangers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(folder, tls=True, ssh=True)
        configuration = folder / "receiver.toml"
        configuration.write_text('[receiver]\nexempt-networks = ["127.0.0.1/32"]\n')
        tcp = next(each for each in self.argv if each.startswith("tcp://"))
        assert self.ssh_end is not None, "it has an SSH end"  # noqa: S101  as in tests/harness
        self.ports = Ports(self.ssh_end.port, self.port, int(tcp.rpartition(":")[2]))
        self.argv += ["-c", str(configuration)]

    @override
    def kept(self) -> list[Path]:
        """Return the relays' files: an attack can begin thousands of others."""
        return [log for way in WAYS for log in self.archive.glob(f"router-{way}/*.log")]


class Scene:
    """The receiver, its relays and the probes, which run while attacks come and go."""

    def __init__(self, rate: float) -> None:
        self._place = Workplace("attacks")
        self._rate = rate
        self.receiver = AttackedReceiver(self._place.path)
        self._parts = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as starting:
            starting.callback(self._place.remove)
            starting.enter_context(self.receiver)
            self.relays = [self._relay(starting, way) for way in WAYS]
            self.acceptance, self.logins = RelpProbe(self.receiver.ports.tcp), LoginProbe(self.receiver)
            starting.callback(self.acceptance.stop)
            starting.callback(self.logins.stop)
            wait_until(self._all_deliver, _PATIENCE, lambda: f"all deliver:\n{self._logs()}")
            self._parts = starting.pop_all()
        return self

    def _relay(self, starting: contextlib.ExitStack, way: str) -> LegitimateRelay:
        made = LegitimateRelay(self._place.path, way, self.receiver, self._rate / len(WAYS))
        starting.enter_context(made.process)
        starting.enter_context(made.writing)
        return made

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.close()

    def _all_deliver(self) -> bool:
        delivering = {path.parent.name for path in self.receiver.kept()}
        return delivering >= {relay.name for relay in self.relays} and bool(self.logins.refused)

    def _logs(self) -> str:
        return "\n".join((self.receiver.log, *(relay.process.log for relay in self.relays), *self.logins.causes[-5:]))

    def undisturbed(self, seconds: float) -> Calm:
        """What is seen without an attack."""
        self.acceptance.waited.clear()
        begun, before = time.monotonic(), self.receiver.records
        time.sleep(seconds)
        rate = (self.receiver.records - before) / (time.monotonic() - begun)
        return Calm(min(rate, self._rate), _p99(self.acceptance.waited))  # without what waited since the start

    def attack(self, names: Sequence[str], seconds: float, before: Calm) -> Outcome:
        """Attack in these ways at once, and watch until all is normal again; `before` is without an attack."""
        lines, memory = len(self.receiver.log.splitlines()), [0.0]
        self.acceptance.waited.clear()
        self.logins.refused.clear()
        begun, delivered = time.monotonic(), self.receiver.records
        with contextlib.ExitStack() as attacking:
            attackers = [attacking.enter_context(self._attacker(name, seconds)) for name in names]
            while any(attacker.poll() is None for attacker in attackers):
                memory.append(memory_of(self.receiver.pid))
                time.sleep(_SAMPLE)
            ended = time.monotonic()
            rate = (self.receiver.records - delivered) / (ended - begun)
            connections = sum(int(attacker.stdout.read()) for attacker in attackers if attacker.stdout)
        what = " + ".join(ATTACKS[name].what for name in names)
        normal = self._until_normal(ended)
        return Outcome(
            *(what, connections, before, rate, _p99(self.acceptance.waited), max(self.logins.refused), max(memory)),
            *(len(self.receiver.log.splitlines()) - lines, normal),
        )

    def _attacker(self, name: str, seconds: float) -> subprocess.Popen[str]:
        address = LOOPBACK if ATTACKS[name].is_local else f"127.0.0.{list(ATTACKS).index(name) + 2}"
        argv = [sys.executable, "-m", "scripts.yardstick.attacker", name, str(seconds), address]
        argv += map(str, self.receiver.ports)
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own

    def _until_normal(self, ended: float) -> float:
        accepted, logged_in = len(self.acceptance.waited), len(self.logins.refused)

        def is_normal() -> bool:
            waited, refused = self.acceptance.waited[accepted:], self.logins.refused[logged_in:]
            return len(waited) > 2 and bool(refused) and max(waited[-3:]) < _NORMAL and refused[-1] < _NORMAL  # noqa: PLR2004  see _NORMAL

        wait_until(is_normal, _PATIENCE, lambda: f"all is normal again:\n{self._logs()}")
        return time.monotonic() - ended

    def lost(self) -> int:
        """End the writing; how many records did not arrive."""
        for relay in self.relays:
            relay.writing.stop()
        written = sum(relay.writing.written.records for relay in self.relays)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.receiver.records >= written, _PATIENCE, "all arrive")
        return written - self.receiver.records


def _p99(waited: Sequence[float]) -> float:
    return statistics.quantiles(waited, n=100)[-1] if len(waited) > 1 else max(waited, default=0.0)


def run(rounds: Sequence[Sequence[str]], seconds: float, rate: float) -> tuple[list[Outcome], int]:
    """Attack in one round after the other, in each of its ways at once.

    Returns what was seen, and how many records were lost.
    """
    with Scene(rate) as scene:
        outcomes: list[Outcome] = []
        for names in rounds:
            is_short = outcomes and seconds < _SHORT
            before = outcomes[0].before if is_short else scene.undisturbed(min(seconds, _SHORT))
            outcomes.append(scene.attack(names, seconds, before))
        return outcomes, scene.lost()


def run_at_random(names: Sequence[str], minutes: float, rate: float, seed: int) -> tuple[list[Outcome], int]:
    """As `run`, for so long, with one to three ways at once for a random time."""
    chance = random.Random(seed)  # noqa: S311  a repeatable choice of attacks
    with Scene(rate) as scene:
        before = scene.undisturbed(min(minutes * 60, _LONG))
        end = time.monotonic() + minutes * 60
        outcomes: list[Outcome] = []
        while (left := end - time.monotonic()) > _SHORTEST or not outcomes:
            chosen = chance.sample(list(names), min(len(names), chance.randint(1, 3)))
            outcomes.append(scene.attack(chosen, min(chance.uniform(_SHORT, _LONG), left), before))
        return outcomes, scene.lost()


def main() -> int:
    """See the head of this file."""
    options = _options()
    names = options.only or list(ATTACKS)
    if options.random:
        print(f"{machine()}; attacks at random for {options.minutes:g} minutes, seed {options.seed}\n")
        outcomes, lost = run_at_random(names, options.minutes, options.rate, options.seed)
        rows = [worst_of(outcomes)]
    else:
        print(f"{machine()}; each attack for {options.seconds:g} s\n")
        outcomes, lost = run([[name] for name in names], options.seconds, options.rate)
        rows = outcomes
    print(markdown(HEADER, [row.row() for row in rows]))
    judged = [*outcomes, *rows] if options.random else outcomes
    faults = [fault for outcome in judged for fault in outcome.faults(Limits())]
    print(f"\n{lost} records lost" + "".join(f"\nnot reached: {fault}" for fault in faults))
    return int(bool(lost or faults))


def _options() -> argparse.Namespace:
    assert __doc__, "it is the help"  # noqa: S101
    what = "\n".join(f"  {name:16}{attack.what}" for name, attack in ATTACKS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nAttacks:\n{what}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=ATTACKS, help="this attack; can be repeated")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each attack (default: %(default)g)")
    parser.add_argument("--rate", type=float, default=1000.0, help="records a second in all (default: %(default)g)")
    parser.add_argument("--random", action="store_true", help="attacks at random, up to three at once")
    parser.add_argument("--minutes", type=float, default=30.0, help="of attacks at random (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=1, help="of attacks at random (default: %(default)d)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
