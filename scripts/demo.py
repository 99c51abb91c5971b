"""The main job, live: audit records through a real SSH port forward to a log server, proven.

Run by ./scripts/demo. All files are in one folder, and every process that the demo starts is stopped at its end. The
last line is computed by comparing the records written into audit.log with the records in the archive.
"""

import argparse
import contextlib
import itertools
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ROUNDS = 200
RECORDS_A_SECOND = 1000
PATIENCE = 45.0
RECORD = re.compile(rb"type=\S+ msg=audit\((\d+\.\d+:\d+)\): .*")
SEED = Path(__file__).parent.parent / "tests" / "events" / "audit" / "seed.log"


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def happens(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until `condition()` is true; False when it is not by then."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Wait until `condition()` is true; the demo fails when it never is."""
    if not happens(condition, PATIENCE):
        raise SystemExit(f"demo: {what} did not happen within {PATIENCE:.0f} s")


def port(wanted: int) -> int:
    """Return the preferred port of the loopback address, or a free one if it is taken."""
    for number in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", number))
            return int(probe.getsockname()[1])
    raise SystemExit("demo: no port is free on 127.0.0.1")


def make_key(path: Path) -> str:
    """Make an Ed25519 key pair; return the public half as OpenSSH writes it."""
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(secret)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode()


class Weather:
    """What happens to the connections that began in this state."""

    def __init__(self) -> None:
        self.swallows_answers = threading.Event()
        self.is_over = threading.Event()


class Wire:
    """The network between router and log server: a TCP relay that can be cut."""

    def __init__(self, listen: int, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", listen))
        self._weather = Weather()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._connect, args=(client, self._weather), daemon=True).start()

    def _connect(self, client: socket.socket, weather: Weather) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._target)) as server:
            self._carry(client, server, weather)

    def _carry(self, client: socket.socket, server: socket.socket, weather: Weather) -> None:
        while not weather.is_over.is_set():
            for ready in select.select([client, server], [], [], 0.05)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                if ready is client:
                    server.sendall(data)
                elif not weather.swallows_answers.is_set():
                    client.sendall(data)

    def lose_answers(self) -> None:
        """From now on the router does not hear the server, so no proof can arrive."""
        self._weather.swallows_answers.set()

    def cut(self) -> None:
        """End the connections that are open now; later connections are carried in both directions."""
        former, self._weather = self._weather, Weather()
        former.is_over.set()


def events(rounds: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield the seed's events again and again, each with a new serial: (type, rest of the record) for every record."""
    seed: list[list[bytes]] = []
    for line in SEED.read_bytes().splitlines():
        match = RECORD.match(line)
        if match is None:
            raise SystemExit(f"demo: {SEED} holds a line that is no record")
        if not seed or RECORD.match(seed[-1][0])[1] != match[1]:  # type: ignore[index]  # every line matched above
            seed.append([])
        seed[-1].append(line)
    for _ in range(rounds):
        for event in seed:
            yield [tuple(re.split(rb" msg=audit\(\d+\.\d+:\d+\)", record, maxsplit=1)) for record in event]  # type: ignore[misc]  # two parts, by maxsplit


class Auditd:
    """Writes audit.log as auditd does, at a steady rate, and rotates it by renaming."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.path = folder / "audit.log"
        self.path.touch()
        self.written: Counter[bytes] = Counter()
        self.serials = 0
        self._events = events(rounds)
        self._next_serial = itertools.count(1001)

    def write(self, share: float, total: int) -> None:
        """Write that share of all events."""
        begun, records = time.monotonic(), 0
        with self.path.open("ab", buffering=0) as log:
            for event in itertools.islice(self._events, round(total * share)):
                serial = next(self._next_serial)
                stamp = b" msg=audit(%.3f:%d)" % (time.time(), serial)
                lines = [stamp.join(parts) for parts in event]
                log.write(b"".join(line + b"\n" for line in lines))
                self.written.update(lines)
                self.serials += 1
                records += len(lines)
                time.sleep(max(0.0, begun + records / RECORDS_A_SECOND - time.monotonic()))

    def rotate(self) -> None:
        """Rename the log and begin a new one."""
        self.path.rename(self.path.with_name("audit.log.1"))
        self.path.touch()


def archived(folder: Path) -> list[bytes]:
    """Every message in an originator's folder of the archive: one a line, with control characters as `#ooo`."""
    messages = []
    for path in sorted(folder.glob("*.log")):
        lines = path.read_bytes().split(b"\n")[:-1]  # without a line that is being written
        messages += [re.sub(rb"#([0-3][0-7]{2})", lambda found: bytes([int(found[1], 8)]), line) for line in lines]
    return messages


def audit_events(folder: Path) -> list[bytes]:
    """Return the audit events; the other messages are relay's own, its opening and a heartbeat."""
    return [message for message in archived(folder) if b' type="audit"' in message.partition(b"] ")[0]]


def records_of(messages: list[bytes]) -> Counter[bytes]:
    """Return the audit records in the messages' MSG parts, line by line, as they were in audit.log."""
    return Counter(
        line for message in messages for line in message.partition(b"] type=")[2].join([b"type=", b""]).split(b"\n")
    )


def show_message(message: bytes) -> None:
    """Print a message, its further records below it."""
    text = message.decode("utf-8", "replace").replace("\n", "\n      ")
    say("    " + text)


class Demo:
    """The play: a log server, a router, and the events between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.relay = [sys.executable, "-m", "relay"]
        self.ssh_port, self.wire_port, self.listen_port, self.local_port = (port(n) for n in (2222, 2223, 9999, 7777))
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a relay command in the background."""
        process = subprocess.Popen([*self.relay, *arguments])  # noqa: S603  our own program
        self.processes.append(process)
        return process

    def make_configuration(self) -> None:
        """Make both key pairs, and the files through which the two ends know each other."""
        host_key = make_key(self.folder / "ssh_host_ed25519_key")
        router_key = make_key(self.folder / "id_ed25519")
        (self.folder / "authorized_keys").write_text(
            f'restrict,port-forwarding,permitopen="127.0.0.1:{self.listen_port}" {router_key} router\n'
        )
        (self.folder / "authorized_keys").chmod(0o600)
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.wire_port} {host_key}\n")
        (self.folder / "relay.toml").write_text(f"""\
[relay]
hostname = "combo1"
router = "combo1"
node = "test1"
state-directory = "{self.folder}/router"

[[source]]
name = "audit"
type = "audit-log"
path = "{self.folder}/audit.log"

[[port-forwarding]]
local-port = {self.local_port}
remote-port = {self.listen_port}
server-address = "127.0.0.1"
server-port = {self.wire_port}
private-key = "{self.folder}/id_ed25519"
known-hosts = "{self.folder}/known_hosts"

[[remote-logging-server]]
address = "127.0.0.1"
port = {self.local_port}
""")

    def start_log_server(self) -> None:
        """Start `relay receive`, and wait for its SSH port."""
        self.start(
            *("receive", "--listen", f"tcp://127.0.0.1:{self.listen_port}"),
            *("--state", f"{self.folder}/server", "--archive", f"{self.folder}/archive"),
            *("--ssh-listen", f"127.0.0.1:{self.ssh_port}", "--host-key", f"{self.folder}/ssh_host_ed25519_key"),
            *("--authorized-keys", f"{self.folder}/authorized_keys"),
        )
        wait_for("the log server's SSH port", lambda: self._answers(self.ssh_port))

    @staticmethod
    def _answers(number: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", number), 1):
            return True
        return False

    def proven(self) -> int:
        """Return the proven audit events: the count of `relay status --json`, without relay's own events."""
        command = [*self.relay, "status", "--json", "--state", f"{self.folder}/router"]
        answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)  # noqa: S603  ours
        own = sum(b' type="relay"' in message for message in archived(self.folder / "archive" / "combo1"))
        return int(answer["destinations"][0]["delivered"]) - own if answer["destinations"] else 0

    def stop(self) -> None:
        """End every process that was started here."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(20)

    def leave_unproven(self, wire: Wire, auditd: Auditd, total: int) -> None:
        """Let auditd write until events are in the archive whose proof cannot arrive.

        When relay is opening a stream, the answer that opens it is lost, and no event is sent on it. Then once more.
        """
        archive = self.folder / "archive" / "combo1"
        for _ in range(3):
            wire.lose_answers()
            auditd.write(0.1, total)
            if happens(lambda: len(audit_events(archive)) > self.proven(), PATIENCE / 3):
                return
            wire.cut()
        raise SystemExit("demo: no event was archived without its proof")

    def play(self, rounds: int) -> bool:
        """Run the whole play; return whether it ended correctly."""
        say(f"Everything happens in {self.folder}")
        self.make_configuration()
        auditd = Auditd(self.folder, rounds)
        total = rounds * sum(1 for _ in events(1))

        say(f"\n1. A log server: `relay receive` with its own SSH end on port {self.ssh_port}")
        self.start_log_server()
        wire = Wire(self.wire_port, self.ssh_port)

        say(f"2. A router: `relay run`, port-forwarding local {self.local_port} -> remote {self.listen_port} over SSH")
        self.start("run", "-c", f"{self.folder}/relay.toml")

        say(f"3. auditd writes {total} events, about {RECORDS_A_SECOND} records a second, and rotates its log once")
        auditd.write(0.4, total)
        auditd.rotate()
        say("   rotated: audit.log is now audit.log.1, and a new audit.log is written")
        auditd.write(0.2, total)

        say("4. The server's answers no longer arrive, and the SSH connection is cut before the proof")
        archive = self.folder / "archive" / "combo1"
        self.leave_unproven(wire, auditd, total)
        unproven = len(audit_events(archive)) - self.proven()
        wire.cut()
        say(f"   cut: {unproven} events are in the archive already, but the router has no proof of them")
        auditd.write(1.0, total)

        # A proof says that the server's spool has the event; its archive follows, later on a busy machine.
        wait_for("archiving every event", lambda: len(audit_events(archive)) >= total)
        wait_for("the proof of every event", lambda: self.proven() == total)
        proven = self.proven()
        say("5. Connected again: unproven events were sent a second time, and the archive kept each once")
        self.stop()

        messages = audit_events(archive)
        say("\nSome archived messages:")
        for message in (messages[0], messages[7]):
            show_message(message)
        say("\n$ relay status")
        subprocess.run([*self.relay, "status", "-c", f"{self.folder}/relay.toml"], check=True)  # noqa: S603  ours
        return self.judge(auditd, messages, proven)

    @staticmethod
    def judge(auditd: Auditd, messages: list[bytes], proven: int) -> bool:
        """Compare the written records with the archive, and return the demo's last line."""
        kept = records_of(messages)

        def serials(records: Counter[bytes]) -> set[bytes]:
            return {match[1] for record in records if (match := RECORD.match(record))}

        lost = len(serials(auditd.written - kept))
        duplicated = len(serials(kept - auditd.written)) + max(len(messages) - len(serials(kept)), 0)
        say(f"\n{auditd.serials} events, {proven} proven, {lost} lost, {duplicated} duplicated")
        return lost == 0 and duplicated == 0 and proven == auditd.serials and kept == auditd.written


def main() -> int:
    """Play in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where everything happens; emptied first")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often the seed's 26 events are written")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True, mode=0o700)
    demo = Demo(Path(os.path.realpath(arguments.folder)))
    try:
        return 0 if demo.play(arguments.rounds) else 1
    finally:
        demo.stop()


if __name__ == "__main__":
    sys.exit(main())
