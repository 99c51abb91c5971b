"""Real auditd and audisp-remote, which speak the auditd remote protocol with each other.

auditd listens on all addresses, so it runs in a network namespace of its own. A doorkeeper stays in it and passes
connected sockets out through a unix socket; `Auditd.port` is a port of the loopback address outside that leads in.
audisp-remote reads one fixed path, so a bind mount in a mount namespace gives it its own /etc. Every action of both
only logs, because `halt` and `single` would act on this machine.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from harness.collector import Collector
from harness.debian import AUDITD, fetch
from harness.peer import Peer
from harness.ports import listens
from harness.process import Process, Workplace
from harness.waiting import wait_until

PORT = 60
_READ = 1 << 16
_ANSWERS = 60.0  # seconds that the doorkeeper has

TELLS_ONLY = """\
write_logs = yes
log_file = {log}
log_format = {log_format}
flush = INCREMENTAL_ASYNC
freq = 50
max_log_file = 99
num_logs = 0
priority_boost = 0
name_format = NONE
max_log_file_action = IGNORE
space_left = 2
space_left_action = IGNORE
admin_space_left = 1
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = SYSLOG
overflow_action = IGNORE
plugin_dir = {folder}/plugins.d
"""
"""An auditd.conf whose every action only logs, without the daemon's source of records."""
_SERVER = """\
local_events = no
use_libwrap = no
tcp_listen_port = {port}
tcp_listen_queue = 16
tcp_max_per_addr = {per_address}
tcp_client_max_idle = 0
transport = TCP
distribute_network = {distribute}
"""
_DEPLOY = Path(__file__).parents[2] / "deploy"
CLIENT_SAMPLE = _DEPLOY / "audisp-remote.conf"
SERVER_SAMPLE = _DEPLOY / "auditd-log-server.conf"
_NONE: Mapping[str, str] = MappingProxyType({})
_OWN_RECORD = re.compile(rb"type=DAEMON_")


def _changed(settings: str, changes: str) -> str:
    """The settings with those keys changed; both as auditd.conf is written."""
    lines = [*settings.splitlines(), *changes.splitlines()]
    keys = dict(line.split(" = ") for line in lines if " = " in line[:40] and not line.startswith("#"))
    return "".join(f"{key} = {value}\n" for key, value in keys.items())


_MORTAL = ("setpriv", "--pdeathsig", "KILL")
"""A test that is killed leaves no daemon behind."""


def _rights() -> list[str]:
    return [] if os.geteuid() == 0 else ["--user", "--map-root-user"]


class Auditd(Peer):
    """A server. Stopped, it sends ENDING to its clients; killed, it has in its log what it acknowledged.

    `plugins`: name → configuration of the plugins that get its events; with one, also the events that it receives.
    `settings`: keys of auditd.conf that override ours. Its log is on a disk of its own, of the size `room` (as mount(8)
    writes sizes).
    """

    def __init__(
        self,
        *,
        per_address: int = 16,
        log_format: str = "RAW",
        plugins: Mapping[str, str] = _NONE,
        settings: str = "",
        room: str = "64m",
    ) -> None:
        self._way_in = Collector(self._lead_in)
        super().__init__("auditd", fetch(AUDITD), port=self._way_in.port)
        self._keys = {"per_address": per_address, "log_format": log_format, "distribute": "yes" if plugins else "no"}
        self._plugins = plugins
        self._settings = settings
        self._room = room
        self._disk = self.folder / "log"
        self._door = str(self.folder / "door")
        self._doorkeeper: Process | None = None

    def __enter__(self) -> Self:
        folder = self.folder
        (folder / "plugins.d").mkdir()
        self._disk.mkdir()
        settings = folder / "auditd.conf"
        every = TELLS_ONLY + _SERVER
        ours = every.format(log=self._disk / "audit.log", folder=folder, port=PORT, **self._keys)
        settings.write_text(_changed(ours, self._settings))
        settings.chmod(0o640)
        for name, text in self._plugins.items():
            plugin = folder / "plugins.d" / f"{name}.conf"
            plugin.write_text(text)
            plugin.chmod(0o640)
        script = f'mount -t tmpfs -o size={self._room} tmpfs {self._disk} && exec "$@"'
        keeper = [sys.executable, str(Path(__file__).with_name("doorkeeper.py")), self._door, str(PORT)]
        argv = [*_MORTAL, "unshare", *_rights(), "--net", "--mount", "sh", "-ec", script, "sh", *keeper]
        self._doorkeeper = Process(argv, folder / "doorkeeper.log")
        self._doorkeeper.wait_for_log("open")
        self._way_in.__enter__()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._way_in.stop_listening()
        if self._doorkeeper is not None:
            self._doorkeeper.kill()
        super().__exit__(kind, error, trace)

    def _command(self) -> list[str]:
        return [*self._inside(), self._root.file("sbin/auditd"), "-n", "-s", "nochange", "-c", str(self.folder)]

    @property
    def _keeper(self) -> Process:
        assert self._doorkeeper is not None, "not in the `with` block"
        return self._doorkeeper

    def _inside(self) -> list[str]:
        """What begins a command that runs in its namespaces."""
        users = ["--user", "--preserve-credentials"] if _rights() else []
        return [*_MORTAL, "nsenter", "--target", str(self._keeper.pid), *users, "--net", "--mount"]

    def make_room(self, room: str) -> None:
        """Let its log's disk be of that size from now on."""
        argv = [*self._inside(), "mount", "-o", f"remount,size={room}", str(self._disk)]
        subprocess.run(argv, check=True, capture_output=True)

    @property
    def log_file(self) -> Path:
        """Its log, as it is seen from outside while the `with` block runs."""
        return Path(f"/proc/{self._keeper.pid}/root{self._disk}/audit.log")

    def _listens(self) -> bool:
        return listens(PORT, pid=self.pid)

    def connect(self) -> socket.socket:
        """A TCP connection to it, made inside its namespace; ConnectionRefusedError while it does not listen."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(_ANSWERS)
            door.connect(self._door)
            _, descriptors, _, _ = socket.recv_fds(door, 1, 1)
        if not descriptors:
            raise ConnectionRefusedError
        return socket.socket(fileno=descriptors[0])

    def _lead_in(self, _: Collector, outside: socket.socket) -> None:
        with contextlib.suppress(ConnectionRefusedError), self.connect() as inside:
            inwards = threading.Thread(target=_pump, args=(outside, inside), daemon=True)
            inwards.start()
            _pump(inside, outside)
            with contextlib.suppress(OSError):
                outside.shutdown(socket.SHUT_RDWR)
            inwards.join()

    def records(self) -> list[bytes]:
        """Every record in its log, in order, octet for octet, without those about itself."""
        lines = self.log_file.read_bytes().split(b"\n") if self.log_file.exists() else []
        return [line for line in lines if line and not _OWN_RECORD.match(line)]

    def wait_for_records(self, count: int, seconds: float = 60) -> list[bytes]:
        """Return the records when there are at least that many."""
        wait_until(
            lambda: len(self.records()) >= count, seconds, lambda: f"{count} records; there are {len(self.records())}"
        )
        return self.records()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_READ):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class AudispRemote:
    """auditd's plugin that sends to a server: fed with records as auditd's dispatcher does it, on its stdin.

    Its settings are those of deploy/audisp-remote.conf.
    """

    def __init__(self, port: int, **changes: str | int) -> None:
        """`changes` are other settings."""
        self._root = fetch(AUDITD)
        self._place = Workplace("audisp-remote")
        self._changes = "".join(f"{key} = {value}\n" for key, value in {"port": port, **changes}.items())

    def __enter__(self) -> Self:
        folder = self._place.path
        (folder / "etc" / "audit").mkdir(parents=True)
        settings = folder / "etc" / "audit" / "audisp-remote.conf"
        settings.write_text(_changed(CLIENT_SAMPLE.read_text(), self._changes))
        settings.chmod(0o640)
        script = f'mount --bind {folder}/etc /etc && exec "$@"'
        argv = [
            *_MORTAL,
            "unshare",
            *_rights(),
            "--mount",
            "sh",
            "-ec",
            script,
            "sh",
            self._root.file("sbin/audisp-remote"),
        ]
        self._child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=self._root.environment(), cwd=folder
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.kill()
        self._child.wait()
        self._place.remove()

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def feed(self, records: Iterable[bytes]) -> None:
        """Give it records, each as a line; blocks while the plugin does not read."""
        assert self._child.stdin is not None
        self._child.stdin.write(b"".join(record + b"\n" for record in records))
        self._child.stdin.flush()


def search(log: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `ausearch -i -if LOG OPTIONS`; its times are in UTC."""
    root = fetch(AUDITD)
    argv = [root.file("sbin/ausearch"), "-i", "-if", str(log), *options]
    environment = {**root.environment(), "TZ": "UTC"}
    return subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
