"""A private syslog-ng: one that collects and keeps every message octet for octet, and one that forwards.

Its syslog() speaks octet-counted RFC 5424, its network() lines. It does not parse what it collects, and writes it
octet-counted (`LENGTH SP MESSAGE`), so a message may hold LF.
"""

from pathlib import Path
from typing import Final, Literal

from harness.certificates import Shown
from harness.debian import SYSLOG_NG, Root, fetch
from harness.peer import Peer
from harness.relay import octet_counted

Driver = Literal["syslog", "network"]

_HEAD: Final = """\
@version: current
options {{ log-msg-size({size}); use-dns(no); keep-hostname(yes); frac-digits(3); stats-freq(0); }};
"""
_COLLECTING: Final = """\
source incoming {{ {driver}(ip("{host}") port({port}) transport("{transport}") {tls} {flags}); }};
template whole {{ template("{template}"); }};
destination kept {{ file("{output}" template("$(length $(template whole)) $(template whole)")); }};
log {{ source(incoming); destination(kept); }};
"""
_TLS: Final = """\
tls(cert-file("{0.pair.certificate}") key-file("{0.pair.key}")
    ca-file("{0.authority}") peer-verify(required-trusted))"""
_AS_IT_CAME: Final = "${MESSAGE}"
_PUT_TOGETHER: Final = "<${PRI}>1 ${ISODATE} ${HOST} ${PROGRAM} ${PID:--} ${MSGID:--} ${SDATA:--} ${MESSAGE}"
_FORWARDING: Final = """\
source incoming {{ syslog(ip("{host}") port({port}) transport("tcp")); }};
destination onward {{ {driver}("{host}" port({destination}) transport("{transport}") {tls}); }};
log {{ source(incoming); destination(onward); }};
"""


def syslog_ng_version(root: Root) -> str:
    """Return its major and minor version, the name of the folder of its modules."""
    (modules,) = Path(root.file("usr/lib/syslog-ng")).glob("[0-9]*")
    return modules.name


def syslog_ng_command(root: Root, configuration: Path) -> list[str]:
    """Return the command that runs an unpacked syslog-ng in the foreground."""
    modules = f"{root.file('usr/lib/syslog-ng')}/{syslog_ng_version(root)}"
    argv = [root.file("usr/sbin/syslog-ng"), "-F", "--no-caps", "-f", str(configuration)]
    return [*argv, f"--module-path={modules}"]


def syslog_ng_environment(root: Root) -> dict[str, str]:
    """Return the environment in which an unpacked syslog-ng finds its libraries and modules."""
    environment = root.environment()
    libraries = f"{root.file('usr/lib/syslog-ng')}:{environment['LD_LIBRARY_PATH']}"
    return {**environment, "LD_LIBRARY_PATH": libraries}


class _SyslogNg(Peer):
    """`port` is where it receives messages."""

    def __init__(self, max_message_size: int = 1 << 20) -> None:
        super().__init__("syslog-ng", fetch(SYSLOG_NG))
        self._size = max_message_size
        self.output = self.folder / "collected"

    def _configuration(self) -> str:
        raise NotImplementedError

    def _command(self) -> list[str]:
        folder = self.folder
        (folder / "syslog-ng.conf").write_text(_HEAD.format(size=self._size) + self._configuration())
        return [
            *syslog_ng_command(self._root, folder / "syslog-ng.conf"),
            *("-R", str(folder / "persist"), "-p", str(folder / "pid"), "-c", str(folder / "control")),
        ]

    def _environment(self) -> dict[str, str]:
        return syslog_ng_environment(self._root)


class SyslogNg(_SyslogNg):
    """A collector."""

    def __init__(
        self, driver: Driver, *, parse: bool = False, tls: Shown | None = None, max_message_size: int = 1 << 20
    ) -> None:
        """With `parse` it keeps the parts that it has parsed, put together as RFC 5424 again.

        It closes the connection on a message that is larger than `max_message_size`.
        """
        super().__init__(max_message_size)
        self._driver = driver
        self._parse = parse
        self._tls = tls

    def _configuration(self) -> str:
        return _COLLECTING.format(
            driver=self._driver,
            host=self.host,
            port=self.port,
            output=self.output,
            transport="tcp" if self._tls is None else "tls",
            tls="" if self._tls is None else _TLS.format(self._tls),
            flags="" if self._parse else "flags(no-parse)",
            template=_PUT_TOGETHER if self._parse else _AS_IT_CAME,
        )

    def messages(self) -> list[bytes]:
        """Return every message collected so far, in order."""
        return octet_counted(self.output.read_bytes()) if self.output.exists() else []


class SyslogNgForwarder(_SyslogNg):
    """A local program that forwards what its port receives (octet-counted RFC 5424) to `destination`."""

    def __init__(self, destination: int, driver: Driver, *, tls: Shown | None = None) -> None:
        super().__init__()
        self._destination = destination
        self._tls = tls
        self._driver = driver

    def _configuration(self) -> str:
        return _FORWARDING.format(
            driver=self._driver,
            host=self.host,
            port=self.port,
            destination=self._destination,
            transport="tcp" if self._tls is None else "tls",
            tls="" if self._tls is None else _TLS.format(self._tls),
        )
