"""A running `relay receive` files what senders of every form send, by their names, and disputes forged ones."""

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from archive.plain_reader import read_archive
from harness.certificates import ROUTER, SERVER, Authority
from harness.ports import LOOPBACK, free_port, listens
from harness.process import Process
from harness.relay import RELAY
from harness.sender_forms import EVERYTHING
from harness.waiting import wait_until

from relay.archive.filing.originator import folder_name
from relay.syslog.relp_frame import encode

OWN = b'<109>1 2026-11-30T09:01:02Z fw1 relay - - [128T relayRun="00000000000000ab" relaySeq="%d" type="audit"] x'


class LogServer:
    """`relay receive` with a configuration file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open_port, self.bound_port = free_port(), free_port()
        self.configuration = folder / "relay.toml"
        self.archive = folder / "archive"

    def configure(self, *lines: str, bound: bool = True, udp: bool = False, archive_format: str = "text") -> None:
        urls = [f"tcp://{LOOPBACK}:{port}" for port in (self.open_port, self.bound_port)]
        urls += [f"udp://{LOOPBACK}:{self.open_port}"] if udp else []
        table = ["[[receiver.originator]]", 'name = ["fw*"]', f'listeners = ["{urls[1]}"]'] if bound else []
        text = [
            "[relay]",
            f'state-directory = "{self.folder / "state"}"',
            'hostname = "loghost"',
            "[receiver]",
            f"listen = {json.dumps(urls)}",
            f'archive = "{self.archive}"',
            f'archive-format = "{archive_format}"',
            'zone = "UTC"',
            *lines,
            *table,
        ]
        self.configuration.write_text("\n".join(text))

    def relay(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [*RELAY, "-c", str(self.configuration), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    @contextlib.contextmanager
    def running(self, *ports: int) -> Iterator[Process]:
        argv = [*RELAY, "-c", str(self.configuration), "receive"]
        with Process(argv, self.folder / "log") as process:
            ports = ports or (self.bound_port,)
            wait_until(lambda: all(map(listens, ports)) or not process.running, 60, lambda: process.log)
            assert process.running, process.log
            yield process
            process.stop()

    def send(self, port: int, *messages: bytes) -> None:
        """Return when they are accepted."""
        with socket.create_connection((LOOPBACK, port), 30) as program:
            program.sendall(b"".join(b"%d %b" % (len(message), message) for message in messages))
            program.shutdown(socket.SHUT_WR)
            assert program.recv(1) == b""

    def send_by_udp(self, *messages: bytes) -> None:
        """Slowly, because nothing stops a sender."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
            for message in messages:
                program.sendto(message, (LOOPBACK, self.open_port))

    def send_by_relp(self, *messages: bytes) -> None:
        """Return when each is answered with 200."""
        with socket.create_connection((LOOPBACK, self.open_port), 30) as program, program.makefile("rb") as answers:
            program.sendall(encode(1, b"open", b"relp_version=0\nrelp_software=test\ncommands=syslog"))
            for number, message in enumerate(messages, 2):
                program.sendall(encode(number, b"syslog", message))
            accepted = 0
            while accepted < len(messages):
                accepted += answers.readline().rstrip().endswith(b" rsp 6 200 OK")

    def events(self, *arguments: str) -> list[dict[str, Any]]:
        done = self.relay("events", "--archive", str(self.archive), "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def foreign_events(self) -> list[dict[str, Any]]:
        """All but relay's own."""
        try:
            return [event for event in self.events() if event["originator"] != "loghost"]
        except AssertionError:  # it has archived nothing yet
            return []

    def wait_for(self, folder: str, count: int) -> list[dict[str, Any]]:
        """The messages of an originator's folder, when there are so many."""
        found: list[dict[str, Any]] = []

        def are_there() -> bool:
            with contextlib.suppress(AssertionError):
                found[:] = self.events("--originator", folder)
            return len(found) >= count

        wait_until(are_there, 60, lambda: f"{folder}: {found}\n{(self.folder / 'log').read_text()}")
        return found


@pytest.fixture
def server(tmp_path: Path) -> LogServer:
    return LogServer(tmp_path)


def test_bound_names_are_disputed_reloaded_and_required(server: LogServer) -> None:
    server.configure()
    with server.running() as process:
        server.send(server.open_port, OWN % 1, b"<14>1 2026-11-30T09:01:02Z web1 app - - - x", b"no form")
        server.send(server.bound_port, OWN % 1, OWN % 1, b"<14>no host")
        forged = server.wait_for("~disputed/fw1", 1)
        assert [event["marks"] for event in forged] == [["disputed"]]
        shown = server.relay("events", "--archive", str(server.archive), "--grep", "relaySeq").stdout
        assert "  ~disputed/fw1  " in shown  # never as fw1's own
        assert [event["number"] for event in server.wait_for("fw1", 1)] == [1]  # the forged one is not its duplicate
        assert len(server.wait_for("web1", 1)) == 1
        (bare, other) = server.wait_for(LOOPBACK, 2)
        assert "no-host" in bare["marks"]
        assert {bare["message"], other["message"]} == {"no form", "no host"}
        wait_until(lambda: "name-disputed" in server.relay("status").stdout, 60, lambda: process.log)
        assert f"is in ~disputed: fw1 from {LOOPBACK} by tcp://{LOOPBACK}:{server.open_port}" in process.log

        server.configure(bound=False)
        assert server.relay("reload").returncode == 0
        server.send(server.open_port, OWN % 2)
        assert len(server.wait_for("fw1", 2)) == 2

        server.configure("require-identity = true")
        assert server.relay("reload").returncode == 0
        with pytest.raises(OSError, match="refused"):
            server.send(server.open_port, OWN % 3)
        server.send(server.bound_port, OWN % 3)
        assert len(server.wait_for("fw1", 3)) == 3
        assert f"not listening on tcp://{LOOPBACK}:{server.open_port}: require-identity is true" in process.log


def test_keys_and_certificates_prove_names(server: LogServer, tmp_path: Path, authority: Authority) -> None:
    """Of senders by TLS and SSH; no other address listens, although it stays the destination within SSH."""
    tls, ssh, pair = free_port(), free_port(), authority.pair(SERVER, LOOPBACK)
    host_key, client_key = (paramiko.ECDSAKey.generate() for _ in range(2))
    host_key.write_private_key_file(str(tmp_path / "host"))
    (tmp_path / "keys").write_text(f"{client_key.get_name()} {client_key.get_base64()} router\n")
    (tmp_path / "keys").chmod(0o600)
    server.configure(
        "require-identity = true",
        *("[[receiver.originator]]", 'name = ["fw1"]', f'certificates = ["{ROUTER}"]'),
        *("[[receiver.originator]]", 'name = ["fw2"]', f'ssh-keys = ["{client_key.fingerprint}"]'),
        *("[receiver.tls]", f'listen = "{LOOPBACK}:{tls}"', f'certificate = "{pair.certificate}"'),
        *(f'private-key = "{pair.key}"', f'ca = "{authority.certificate}"'),
        *("[receiver.ssh]", f'listen = "{LOOPBACK}:{ssh}"', f'host-key = "{tmp_path / "host"}"'),
        f'authorized-keys = "{tmp_path / "keys"}"',
        bound=False,
    )
    messages = [b"<14>1 2026-11-30T09:01:02Z fw%d app - - - x" % number for number in (1, 2)]
    framed = b"".join(b"%d %b" % (len(message), message) for message in messages)
    with server.running(tls, ssh) as process:
        assert not listens(server.open_port)
        for name in (ROUTER, "other.example"):
            context = authority.client()
            context.load_cert_chain(*authority.pair(name))
            with (
                socket.create_connection((LOOPBACK, tls)) as connection,
                context.wrap_socket(connection, server_hostname=SERVER) as stream,
            ):
                stream.sendall(framed)
                stream.unwrap()
        with paramiko.Transport((LOOPBACK, ssh)) as transport:
            transport.connect(username="router", pkey=client_key)
            channel = transport.open_channel("direct-tcpip", (LOOPBACK, server.open_port), (LOOPBACK, 1))
            channel.sendall(framed + b"11 <14>no host")
            channel.shutdown_write()
            assert channel.recv(1) == b"", process.log
        marks = {
            folder: [each["marks"] for each in server.wait_for(folder, count)] for folder, count in _PROVEN.items()
        }
    forwarded = ["forwarded"]
    assert marks == {
        "fw1": [[]],
        "fw2": [forwarded, [*forwarded, "no-time", "no-host"]],
        "~disputed/fw1": [["disputed"], [*forwarded, "disputed"]],
        "~disputed/fw2": [["disputed"], ["disputed"]],
    }


_PROVEN = {"fw1": 1, "fw2": 2, "~disputed/fw1": 2, "~disputed/fw2": 2}


@pytest.mark.parametrize("archive_format", ["text", "json"])
def test_every_form_ends_in_a_folder_of_its_own_to_the_octet(server: LogServer, archive_format: str) -> None:
    """By TCP, UDP and RELP: its host or the peer's address is the folder; it has a time or a mark, and its octets."""
    server.configure(bound=False, udp=True, archive_format=archive_format)
    vectors = [vector for vector in EVERYTHING if vector.message]
    with server.running():
        messages = [vector.message for vector in vectors]
        server.send(server.open_port, *messages, OWN % 1)
        server.send(server.open_port, OWN % 1, OWN % 1)  # repetitions
        server.send_by_udp(*messages)
        server.send_by_relp(*messages)
        expected = {"fw1": [OWN % 1]}
        for vector in vectors:
            expected.setdefault(folder_name(vector.host or LOOPBACK.encode()), []).extend([vector.message] * 3)
        count = 3 * len(vectors) + 1
        wait_until(lambda: len(server.foreign_events()) >= count, 60, (server.folder / "log").read_text)
    if archive_format == "text":
        stored = {name: sorted(found) for name, found in _messages(server.archive).items() if name != "loghost"}
        assert stored == {name: sorted(found) for name, found in expected.items()}
    events = server.foreign_events()
    assert len(events) == count
    assert all(event["time"] or "no-time" in event["marks"] for event in events)
    if archive_format == "json":
        lines = [
            json.loads(line) for path in server.archive.glob("fw1/*.jsonl") for line in path.read_bytes().splitlines()
        ]
        assert sorted(line["raw"].encode() for line in lines) == sorted(expected["fw1"])
        address = f"{LOOPBACK}:{server.open_port}"
        assert {line["via"] for line in lines} == {
            *(f"tcp://{address} {protocol}" for protocol in ("syslog", "relp")),
            f"udp://{address} syslog",
        }


def _messages(archive: Path) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for line in read_archive(archive):
        found.setdefault(line.folder, []).append(line.message)
    return found
