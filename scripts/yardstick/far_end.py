"""Far ends of a measurement: the sink in C, and `relay receive`. Each listens on its own port after its start."""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from harness.certificates import SERVER, Authority
from harness.openssh import generate_key
from harness.ports import LOOPBACK, free_port, listens
from harness.relay import RELAY

from scripts.yardstick.part import Part

_HERE: Final = Path(__file__).parent
CACHE: Final = _HERE.parents[1] / ".cache" / "yardstick"
_STATISTICS: Final = struct.Struct("<7Q2d")  # struct statistics in sink.c
_TRACE: Final = struct.Struct("<2Qd")  # struct trace in sink.c
_COMPILING_SECONDS: Final = 60


class Statistics(NamedTuple):
    """What the sink has counted in all its lives."""

    messages: int = 0
    octets: int = 0
    connections: int = 0
    malformed: int = 0
    truncated: int = 0
    """Connections that ended inside a message."""
    records: int = 0
    serials: int = 0
    """The sum of all records' serials: with the count, it shows whether the records that arrived are those written."""
    first: float = 0.0
    """When the first record came, and the last: CLOCK_MONOTONIC, seconds."""
    last: float = 0.0


class Arrival(NamedTuple):
    """One message's arrival, as the sink traced it."""

    serial: int
    """Of its first record; 0 for a message without one."""
    records: int
    at: float
    """CLOCK_MONOTONIC, seconds."""


def compiled(name: str) -> Path:
    """Return the program made of NAME.c, compiled when it is older than its source; AssertionError quotes cc."""
    source, program = _HERE / f"{name}.c", CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with _alone():
        if not program.exists() or program.stat().st_mtime_ns < source.stat().st_mtime_ns:
            _compile(source, program)
    return program


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile(source: Path, program: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise AssertionError("no C compiler is here (cc); on Debian and Ubuntu: apt install gcc libc6-dev")
    fresh = program.with_suffix(".new")
    argv = [compiler, "-O2", "-o", str(fresh), str(source)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_COMPILING_SECONDS, check=False)  # noqa: S603  our own source
    if done.returncode:
        raise AssertionError(f"{source.name} does not compile:\n{done.stderr}")
    os.replace(fresh, program)


class Sink(Part):
    """The sink counts; with `keep` it appends every message and a LF to `kept_file`; see sink.c."""

    def __init__(self, folder: Path, *, keep: bool = False, trace: bool = False, octets_a_second: int = 0) -> None:
        self.port = free_port()
        self.kept_file = folder / "kept"
        self._trace_file = folder / "trace"
        self._statistics_file = folder / "statistics"
        argv = [
            *(str(compiled("sink")), str(self.port), str(self._statistics_file)),
            str(self.kept_file) if keep else "-",
            str(self._trace_file) if trace else "-",
            str(octets_a_second),
        ]
        super().__init__(argv, folder / "sink.log")

    def ready(self) -> bool:
        """Return whether it listens."""
        return listens(self.port)

    def set_pace(self, octets_a_second: int) -> None:
        """Set how fast it reads from its next start on; 0: as fast as it can."""
        self.argv[-1] = str(octets_a_second)

    def statistics(self) -> Statistics:
        """Return what it has counted so far."""
        data = self._statistics_file.read_bytes() if self._statistics_file.exists() else b""
        return Statistics(*_STATISTICS.unpack(data)) if len(data) == _STATISTICS.size else Statistics()

    @property
    def records(self) -> int:
        """Return the number of audit records that arrived, copies included."""
        return self.statistics().records

    @property
    def seen(self) -> int:
        """Return `records` of the last look; for any thread."""
        return self.records

    def kept(self) -> list[Path]:
        """Return the files with the received messages."""
        return [self.kept_file] if self.kept_file.exists() else []

    def arrivals(self) -> list[Arrival]:
        """Return every message's arrival, in order."""
        data = self._trace_file.read_bytes() if self._trace_file.exists() else b""
        return [Arrival(*each) for each in _TRACE.iter_unpack(data[: len(data) // _TRACE.size * _TRACE.size])]


def authority(folder: Path) -> Path:
    """Return the certificate that a forwarder of this folder trusts."""
    return folder / "certificates" / "authority.pem"


class OwnSshEnd(NamedTuple):
    """What a client needs to log in at relay's own SSH end; the names are those of `harness.openssh.Sshd`."""

    host: str
    port: int
    user: str
    client_key: Path
    known_hosts: Path


def _own_ssh_end(folder: Path) -> tuple[OwnSshEnd, list[str]]:
    """Make keys, and return the SSH end with the flags of `relay receive` for it."""
    host_key, client_key = generate_key(folder / "host_key"), generate_key(folder / "client_key")
    port, known_hosts = free_port(), folder / "known_hosts"
    kind, key = Path(f"{host_key}.pub").read_text().split()[:2]
    known_hosts.write_text(f"[{LOOPBACK}]:{port} {kind} {key}\n")
    flags = ["--ssh-listen", f"{LOOPBACK}:{port}", "--host-key", str(host_key)]
    flags += ["--authorized-keys", f"{client_key}.pub"]
    return OwnSshEnd(LOOPBACK, port, "relay", client_key, known_hosts), flags


class RelayReceive(Part):
    """`relay receive` with an archive; by TLS it shows a certificate of `authority`. With `ssh` it has its SSH end."""

    def __init__(self, folder: Path, *, tls: bool = False, ssh: bool = False) -> None:
        self.port = free_port()
        self.archive = folder / "archive"
        self.state = folder / "receiver-state"
        argv = [
            *(*RELAY, "receive", "--listen", f"tcp://{LOOPBACK}:{free_port() if tls else self.port}"),
            *("--archive", str(self.archive), "--state", str(self.state)),
        ]
        if tls:
            pair = Authority(authority(folder).parent).pair(SERVER)
            argv += ["--tls-listen", f"{LOOPBACK}:{self.port}", "--certificate", str(pair.certificate)]
            argv += ["--private-key", str(pair.key)]
        self.ssh_end: OwnSshEnd | None = None
        if ssh:
            self.ssh_end, flags = _own_ssh_end(folder)
            argv += flags
        self._counted: dict[Path, int] = {}
        self._records = 0
        super().__init__(argv, folder / "receive.log")

    def ready(self) -> bool:
        """Return whether it listens."""
        return listens(self.port)

    @property
    def records(self) -> int:
        """Return the number of audit records in the archive; each look reads only what is new."""
        for path in self.kept():
            with path.open("rb") as file:
                file.seek(self._counted.get(path, 0))
                data = file.read()
            whole = data.rfind(b"\n") + 1  # a half-written record is counted at the next look
            self._counted[path] = self._counted.get(path, 0) + whole
            self._records += data.count(b" msg=audit(", 0, whole)
        return self._records

    @property
    def seen(self) -> int:
        """Return `records` of the last look; for any thread."""
        return self._records

    def kept(self) -> list[Path]:
        """Return the archive's files."""
        return sorted(self.archive.glob("[!.]*/*.log"))
