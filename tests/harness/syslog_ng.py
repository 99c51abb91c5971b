"""A private syslog-ng: one that collects and keeps every message byte for byte, and one that forwards.

Its syslog() speaks RFC 5424 octet-counted, its network() lines. What it collects is not parsed, and is written
octet-counted (`LENGTH SP MESSAGE`), so a message may hold LF.
"""

from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from harness.debian import SYSLOG_NG, fetch
from harness.ports import LOOPBACK, free_port
from harness.process import Process, Workplace
from harness.relay import octet_counted
from harness.waiting import wait_until

Driver = Literal["syslog", "network"]

_TAKEN: Final = "Address already in use"
_ATTEMPTS: Final = 5
_HEAD: Final = """\
@version: 3.38
options { log-msg-size(1048576); use-dns(no); keep-hostname(yes); frac-digits(3); stats-freq(0); };
"""
_COLLECTING: Final = """\
source incoming {{ {driver}(ip("{host}") port({port}) transport("tcp") {flags}); }};
template whole {{ template("{template}"); }};
destination kept {{ file("{output}" template("$(length $(template whole)) $(template whole)")); }};
log {{ source(incoming); destination(kept); }};
"""
_AS_IT_CAME: Final = "${MESSAGE}"
_PUT_TOGETHER: Final = "<${PRI}>1 ${ISODATE} ${HOST} ${PROGRAM} ${PID:--} ${MSGID:--} ${SDATA:--} ${MESSAGE}"
_FORWARDING: Final = """\
source incoming {{ syslog(ip("{host}") port({port}) transport("tcp")); }};
destination onward {{ {driver}("{host}" port({destination}) transport("tcp")); }};
log {{ source(incoming); destination(onward); }};
"""


class _SyslogNg:
    """It runs from the `with` statement on; `port` is where it takes messages in."""

    def __init__(self) -> None:
        self._root = fetch(SYSLOG_NG)
        self._place = Workplace("syslog-ng")
        self._process: Process | None = None
        self.host = LOOPBACK
        self.port = free_port()
        self.output = self._place.path / "collected"

    def __enter__(self) -> Self:
        for _ in range(_ATTEMPTS):
            self._launch()
            if self._is_listening():
                return self
            self.port = free_port()
        raise AssertionError(self.log)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
        self._place.remove()

    def _configuration(self) -> str:
        raise NotImplementedError

    def _launch(self) -> None:
        folder = self._place.path
        (folder / "syslog-ng.conf").write_text(_HEAD + self._configuration())
        modules = Path(self._root.file("usr/lib/syslog-ng"))
        environment = self._root.environment()
        environment["LD_LIBRARY_PATH"] = f"{modules}:{environment['LD_LIBRARY_PATH']}"
        argv = [
            *(self._root.file("usr/sbin/syslog-ng"), "-F", "--no-caps", "-f", str(folder / "syslog-ng.conf")),
            *("-R", str(folder / "persist"), "-p", str(folder / "pid"), "-c", str(folder / "control")),
            f"--module-path={next(modules.glob('3.*'))}",
        ]
        self._process = Process(argv, folder / "syslog-ng.log", environment)

    def _is_listening(self) -> bool:
        process = self._running
        wait_until(lambda: self._has_socket() or not process.running, 20, lambda: process.log)
        if process.running:
            return True
        assert _TAKEN in process.log, process.log
        return False

    def _has_socket(self) -> bool:
        """Whether somebody listens on the port, by the kernel's table: a connection to look would be a sender too."""
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        return any(row[1].endswith(f":{self.port:04X}") and row[3] == "0A" for row in rows)  # proc(5): LISTEN

    @property
    def _running(self) -> Process:
        assert self._process is not None, "not started"
        return self._process

    @property
    def log(self) -> str:
        """What it said about itself."""
        return self._running.log


class SyslogNg(_SyslogNg):
    """A collector."""

    def __init__(self, driver: Driver, *, parse: bool = False) -> None:
        """With `parse` it keeps what it has understood of a message, put together as RFC 5424 again."""
        super().__init__()
        self._driver = driver
        self._parse = parse

    def _configuration(self) -> str:
        return _COLLECTING.format(
            driver=self._driver,
            host=self.host,
            port=self.port,
            output=self.output,
            flags="" if self._parse else "flags(no-parse)",
            template=_PUT_TOGETHER if self._parse else _AS_IT_CAME,
        )

    def messages(self) -> list[bytes]:
        """Every message collected so far, in order."""
        return octet_counted(self.output.read_bytes()) if self.output.exists() else []


class SyslogNgForwarder(_SyslogNg):
    """A local program that forwards: what is sent to its port, RFC 5424 octet-counted, goes on to `destination`."""

    def __init__(self, destination: int, driver: Driver) -> None:
        super().__init__()
        self._destination = destination
        self._driver = driver

    def _configuration(self) -> str:
        return _FORWARDING.format(driver=self._driver, host=self.host, port=self.port, destination=self._destination)
