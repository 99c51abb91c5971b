"""Programs and devices that send by UDP or to a socket: into `relay receive`, and through `relay run` into it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.certificates import SERVER, Authority
from harness.ports import LOOPBACK, free_port, listens
from harness.process import Process
from harness.receiver import Receiver
from harness.relay import RELAY, archived
from harness.rsyslog import Rsyslog, RsyslogForwarder
from harness.waiting import wait_until

from relay.syslog.datagram import datagram_message

TRAFFIC = (
    b'<13>1 2026-11-30T20:00:00Z combo1 Telegraf - events [128T router="Fabric128" subtype="session_closed" '
    b'type="traffic"] '
)
"""As Telegraf's outputs.syslog writes a metric `events` with default_sdid = "128T"."""
WITH_COUNT = b"%d %b" % (len(TRAFFIC), TRAFFIC)
"""Its datagram, because its default framing is octet-counting, also by UDP."""
FORMS = (
    b"<38>Nov 30 20:00:00 node0 SSR[128]: one",
    b"<38>Nov 30 20:00:00 node0 SSR[128]: ends with LF\n",
    b"<38>Nov 30 20:00:00 node0 SSR[128]: ends with NUL\0",
    b"<38>Nov 30 20:00:00 node0 SSR[128]: ends with LF NUL\n\0",
    b"<38>Nov 30 20:00:00 node0 SSR[128]: ends with two LF\n\n",
    b"<38>Nov 30 20:00:00 node0 SSR[128]: ends with CR LF\r\n",
    b"<38>Nov 30 20:00:00 node0 SSR[128]: two\nlines",
    b"without a priority\n",
    b"%ASA-6-302013: Built",
    b'{"json": true}\n',
)
OPTIONS = """
receive-buffer = "{buffer}"
max-connections = {connections}
"""


class LogServer:
    """`relay receive -c FILE` with a listener of each kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tcp, self.udp, self.udp6 = free_port(), free_port(), free_port()
        self.socket = folder / "log"
        self.archive = folder / "archive"
        self.configuration = folder / "relay.toml"
        self.write()

    def write(self, buffer: str = "64KiB", connections: int = 100) -> None:
        urls = [
            f"tcp://{LOOPBACK}:{self.tcp}",
            f"udp://{LOOPBACK}:{self.udp}",
            f"udp://[::1]:{self.udp6}",
            f"unix-datagram://{self.socket}",
        ]
        self.configuration.write_text(
            f'[relay]\nhostname = "log1"\nstate-directory = "{self.folder}/state"\n'
            f'[receiver]\narchive = "{self.archive}"\nlisten = {json.dumps(urls)}\n'
            + OPTIONS.format(buffer=buffer, connections=connections)
        )

    def start(self) -> Process:
        return Process([*RELAY, "-c", str(self.configuration), "receive"], self.folder / "receive.log")

    def run(self, *arguments: str) -> str:
        argv = [*RELAY, "-c", str(self.configuration), *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout + done.stderr

    def counters(self) -> dict[str, int]:
        live = json.loads(self.run("status", "--json"))["live"]
        (part,) = [part for part in live["parts"] if part["name"] == "listeners"]
        counters: dict[str, int] = part["counters"]
        return counters

    def ledgers(self) -> list[dict[str, object]]:
        lines = [line for path in self.archive.rglob("*.ledger") for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines if '"via"' in line]


def send(port: int, datagrams: Sequence[bytes], host: str = LOOPBACK) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram in datagrams:
            sock.sendto(datagram, (host, port))


def log_with(program: str, path: Path) -> None:
    logger = shutil.which("logger")
    assert logger is not None
    subprocess.run([logger, "-u", str(path), "-t", program, f"from {program}"], check=True, timeout=30)


def test_a_log_server_archives_datagrams_reports_drops_and_keeps_its_ceilings(tmp_path: Path) -> None:
    server = LogServer(tmp_path)
    with server.start() as process:
        process.wait_for_log("ready: ")
        send(server.udp, [WITH_COUNT, *FORMS, b""])
        send(server.udp6, [b"<13>by IPv6"], "::1")
        log_with("tool", server.socket)
        expected = {TRAFFIC, b"<13>by IPv6", *(datagram_message(each, len(each)) for each in FORMS)}
        wait_until(lambda: expected <= set(archived(server.archive)), 60, lambda: f"{archived(server.archive)}")
        wait_until(lambda: any(b"from tool" in each for each in archived(server.archive)), 60, "logger's message")
        came = {(entry["from"], str(entry["via"]).partition(":")[0]) for entry in server.ledgers()}
        assert {(LOOPBACK, "udp"), ("::1", "udp"), (socket.gethostname(), "unix-datagram")} <= came
        assert (tmp_path / "archive" / "combo1").is_dir()
        assert server.counters()["empty"] == 1

        process.suspend()  # the kernel's buffer overflows meanwhile
        send(server.udp, [b"<13>flood " + b"x" * 1000] * 1000)
        os.kill(process.pid, signal.SIGCONT)
        wait_until(
            lambda: any(b"the kernel dropped datagrams" in each for each in archived(server.archive)), 60, "a gap"
        )
        dropped = server.counters()["dropped"]
        kept = sum(b"flood" in each for each in archived(server.archive))
        assert dropped + kept == 1000
        assert f"the kernel dropped {dropped} datagrams" in process.log
        assert f'source="udp://{LOOPBACK}:{server.udp}"' in str(archived(server.archive))

        limits = Path(f"/proc/{process.pid}/limits").read_text()
        soft, hard = next(line for line in limits.splitlines() if line.startswith("Max open files")).split()[3:5]
        assert int(soft) == min(int(hard), 65_536)
        server.write(buffer="1MiB", connections=2)
        assert "receive-buffer changed" in server.run("reload")
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                connection = stack.enter_context(socket.create_connection((LOOPBACK, server.tcp)))
                connection.sendall(b"<13>kept open\n")
            wait_until(lambda: server.counters()["open"] == 2, 60, "two connections")
            for _ in range(5):
                with (
                    socket.create_connection((LOOPBACK, server.tcp)) as third,
                    contextlib.suppress(ConnectionResetError),
                ):
                    assert third.recv(1) == b""
            wait_until(lambda: server.counters().get("refused_connections") == 5, 60, lambda: str(server.counters()))
        assert process.log.count("beyond max-connections = 2") == 1
        assert "Traceback" not in process.log
        process.stop()
    assert not server.socket.exists()


def test_what_rsyslog_keeps_of_a_datagram_is_what_relay_keeps(tmp_path: Path) -> None:
    server = LogServer(tmp_path)
    with Rsyslog("imudp") as rsyslog, server.start() as process:
        process.wait_for_log("ready: ")
        send(rsyslog.port, FORMS)
        send(server.udp, FORMS)
        kept = rsyslog.wait_for_messages(len(FORMS))
        wait_until(
            lambda: set(kept) <= set(archived(server.archive)), 60, lambda: f"{archived(server.archive)}\n{kept}"
        )


def test_a_routers_relay_takes_syslog_from_its_programs_and_forwards_it(tmp_path: Path) -> None:
    """A real rsyslog by TCP and RELP, Telegraf by UDP, logger(1) by a socket, TLS; a reload keeps the connections."""
    receiver = Receiver(tmp_path / "server")
    tcp, udp, tls, path = free_port(), free_port(), free_port(), tmp_path / "log"
    authority = Authority(tmp_path)
    shown = authority.pair(SERVER)
    configuration = tmp_path / "relay.toml"

    def write(buffer: str) -> None:
        urls = [f"tcp://{LOOPBACK}:{tcp}", f"udp://{LOOPBACK}:{udp}", f"unix-datagram://{path}"]
        configuration.write_text(
            f'[relay]\nhostname = "combo1"\nstate-directory = "{tmp_path}/state"\n[audit]\nwatch-auditd = "never"\n'
            f'[[source]]\nname = "syslog"\ntype = "syslog"\nlisten = {json.dumps(urls)}\nreceive-buffer = "{buffer}"\n'
            f'[source.tls]\nlisten = "{LOOPBACK}:{tls}"\n'
            f'certificate = "{shown.certificate}"\nprivate-key = "{shown.key}"\n'
            f'[[remote-logging-server]]\naddress = "{LOOPBACK}"\nport = {receiver.port}\n'
        )

    def relay(*arguments: str) -> str:
        argv = [*RELAY, "-c", str(configuration), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout

    def has(text: bytes) -> bool:
        return any(text in message for message in archived(receiver.archive))

    write("1MiB")
    argv = [*RELAY, "-c", str(configuration), "run"]
    with receiver.running(), Process(argv, tmp_path / "run.log") as running, contextlib.ExitStack() as stack:
        running.wait_for_log("ready: ")
        wait_until(lambda: listens(tcp), 60, lambda: running.log)
        by_lines = stack.enter_context(RsyslogForwarder(tcp, "lines"))
        by_relp = stack.enter_context(RsyslogForwarder(tcp, "relp"))
        for program, text in ((by_lines, b"by lines"), (by_relp, b"by relp")):
            with socket.create_connection((LOOPBACK, program.port)) as sender:
                sender.sendall(b"<38>Nov 30 20:00:00 node0 SSR[128]: %b\n" % text)
        send(udp, [WITH_COUNT])
        log_with("tool", path)
        with authority.client().wrap_socket(
            socket.create_connection((LOOPBACK, tls)), server_hostname=SERVER
        ) as by_tls:
            by_tls.sendall(b"28 <38>Nov 30 20:00:00 h a: TLS")
            by_tls.unwrap()
        for text in (b"by lines", b"by relp", TRAFFIC, b"from tool", b"h a: TLS"):
            wait_until(lambda text=text: has(text), 60, lambda: running.log + receiver.status())  # type: ignore[misc]
        write("2MiB")
        assert "source syslog exchanged" in relay("reload")
        with socket.create_connection((LOOPBACK, by_lines.port)) as sender:
            sender.sendall(b"<38>Nov 30 20:00:00 node0 SSR[128]: after the reload\n")
        wait_until(lambda: has(b"after the reload"), 60, lambda: running.log + receiver.status())
        live = json.loads(relay("status", "--json"))["live"]
        parts = {part["name"]: part["counters"] for part in live["parts"]}
        assert parts["source syslog: listeners"]["connections"] == 3
        assert parts[f"source syslog: udp://{LOOPBACK}:{udp}"]["messages"] == 1
        (source,) = live["sources"]
        assert source["accepted"] >= 5
        running.stop()
        assert "Traceback" not in running.log
    assert not path.exists()


def test_with_few_descriptors_the_archive_has_its_own_and_one_line_names_the_ceiling(tmp_path: Path) -> None:
    """The connections get a quarter of 96; asyncio's own server would log a traceback a second without any."""
    server = LogServer(tmp_path)
    server.write(connections=10_000)
    argv = ["prlimit", "--nofile=96:96", *RELAY, "-c", str(server.configuration), "receive"]
    with Process(argv, tmp_path / "receive.log") as process, contextlib.ExitStack() as stack:
        process.wait_for_log("ready: ")
        first = stack.enter_context(socket.create_connection((LOOPBACK, server.tcp)))
        first.sendall(b"<13>1 - device1 app - - - from a connection that is idle later\n")
        wait_until(lambda: archived(server.archive), 60, lambda: process.log)
        for _ in range(150):
            stack.enter_context(socket.create_connection((LOOPBACK, server.tcp)))

        def all_are_turned_away() -> bool:
            counted = server.counters()
            return counted["refused_connections"] + counted["made_room"] >= 127

        wait_until(all_are_turned_away, 60, lambda: str(server.counters()))
        first.sendall(b"<13>1 - device1 app - - - still archived\n")
        send(server.udp, [b"<13>1 - device%d app - - - new folder" % number for number in range(20)])
        wait_until(lambda: len(archived(server.archive)) >= 22, 60, lambda: process.log)
        assert any(b"still archived" in each for each in archived(server.archive))
        (line,) = [line for line in process.log.splitlines() if "refused: " in line]
        assert "beyond the 24 for which this process has file descriptors" in line
        assert "Traceback" not in process.log
