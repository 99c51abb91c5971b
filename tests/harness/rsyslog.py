"""A private rsyslogd that collects syslog over TCP or RELP and keeps every message byte for byte.

rsyslog escapes control characters and cuts at 8 KiB unless told not to. It writes what it received octet-counted
(`LENGTH SP MESSAGE`), so a message may hold LF; only NUL bytes do not survive it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from harness.debian import RSYSLOG, fetch
from harness.ports import LOOPBACK, free_port
from harness.process import Process, Workplace
from harness.waiting import wait_until

_TAKEN = "Address already in use"
_ATTEMPTS = 5

_CONFIGURATION = """\
global(workDirectory="{folder}" maxMessageSize="{size}" parser.escapeControlCharactersOnReceive="off")
module(load="{module}")
template(name="counted" type="string" string="%$.length% %rawmsg%")
ruleset(name="collect") {{
  set $.length = strlen($rawmsg);
  action(type="omfile" file="{output}" template="counted" flushOnTXEnd="on" asyncWriting="off")
}}
input(type="{module}" address="{host}" port="{port}" ruleset="collect"{input_options})
"""
_FORWARDING = """\
global(workDirectory="{folder}" maxMessageSize="{size}" parser.escapeControlCharactersOnReceive="off")
module(load="imptcp")
{module}
template(name="raw" type="string" string="%rawmsg%")
ruleset(name="forward") {{
  action(
    target="{host}" port="{destination}" template="raw" {action}
    action.resumeRetryCount="-1" action.resumeInterval="1"
  )
}}
input(type="imptcp" address="{host}" port="{port}" ruleset="forward")
"""
_ACTIONS = {
    "syslog": ("", 'type="omfwd" protocol="tcp" tcp_framing="octet-counted"'),
    "lines": ("", 'type="omfwd" protocol="tcp" tcp_framing="traditional"'),
    "relp": ('module(load="omrelp")', 'type="omrelp" windowSize="1000"'),
}
_INPUT_OPTIONS = {"imptcp": "", "imtcp": "", "imudp": "", "imrelp": ' maxDataSize="{size}"'}


def _octet_counted(data: bytes) -> list[bytes]:
    messages = []
    at = 0
    while (space := data.find(b" ", at)) >= 0:
        end = space + 1 + int(data[at:space])
        if end > len(data):
            break  # still being written
        messages.append(data[space + 1 : end])
        at = end
    return messages


class Rsyslog:
    """A collector that runs from the `with` statement on; it may be stopped, killed and started again on its port."""

    def __init__(
        self,
        module: Literal["imtcp", "imptcp", "imrelp", "imudp"] = "imptcp",
        max_message_size: int = 1 << 20,
        *,
        host: str = LOOPBACK,
        prefix: Sequence[str] = (),
    ) -> None:
        """`prefix` begins its command: what takes it to another host, where `host` is an address."""
        self._root = fetch(RSYSLOG)
        self._place = Workplace("rsyslog")
        self._module = module
        self._size = max_message_size
        self._process: Process | None = None
        self._prefix = prefix
        self.host = host
        self.port = free_port()
        self.output = self._place.path / "collected"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
        self._place.remove()

    def start(self) -> None:
        """Start it, or start it again on the same port, and return when it accepts connections."""
        first = self._process is None
        for _ in range(_ATTEMPTS):
            self._launch()
            if self._is_listening():
                return
            assert first, self.log
            self.port = free_port()
        raise AssertionError(self.log)

    def _launch(self) -> None:
        folder = self._place.path
        (folder / "rsyslog.conf").write_text(self._configuration())
        modules = self._root.file(f"lib/{os.uname().machine}-linux-gnu/rsyslog")
        argv = [
            *self._prefix,
            self._root.file("usr/sbin/rsyslogd"),
            "-n",
            "-f",
            str(folder / "rsyslog.conf"),
            "-i",
            str(folder / "pid"),
            "-M",
            modules,
        ]
        self._process = Process(argv, folder / "rsyslog.log", self._root.environment())

    def _configuration(self) -> str:
        return _CONFIGURATION.format(
            folder=self._place.path,
            size=self._size,
            module=self._module,
            output=self.output,
            host=self.host,
            port=self.port,
            input_options=_INPUT_OPTIONS[self._module].format(size=self._size),
        )

    def _is_listening(self) -> bool:
        process = self._running
        wait_until(lambda: self._has_socket() or not process.running or _TAKEN in process.log, 20, lambda: process.log)
        if process.running and _TAKEN not in process.log:
            return True
        process.kill()
        assert _TAKEN in process.log, process.log
        return False

    def _has_socket(self) -> bool:
        """Whether somebody listens on the port, by the kernel's table: a connection to look would be a sender too."""
        wanted = f":{self.port:04X}"
        table, state = ("udp", "07") if self._module == "imudp" else ("tcp", "0A")  # an open socket, or LISTEN
        try:
            lines = Path(f"/proc/{self._running.pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:  # it has just ended
            return False
        return any(row[1].endswith(wanted) and row[3] == state for row in map(str.split, lines))  # proc(5)

    @property
    def _running(self) -> Process:
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def log(self) -> str:
        """What rsyslogd said about itself."""
        return self._running.log

    def stop(self) -> None:
        """End it as its service would be ended: what it has read is written first."""
        self._running.stop()

    def kill(self) -> None:
        """Kill it: what it has read and not yet written is gone."""
        self._running.kill()

    def messages(self) -> list[bytes]:
        """Every message collected so far, in order, byte for byte; also after a restart."""
        return _octet_counted(self.output.read_bytes()) if self.output.exists() else []

    def wait_for_messages(self, count: int, seconds: float = 20) -> list[bytes]:
        """The messages, once there are at least so many."""
        wait_until(
            lambda: len(self.messages()) >= count,
            seconds,
            lambda: f"{count} messages; there are {len(self.messages())}",
        )
        return self.messages()


class RsyslogForwarder(Rsyslog):
    """A local program that forwards: what is sent to its port goes on to `destination`, byte for byte.

    While the destination refuses, omfwd or omrelp tries again every second, and keeps what it has.
    """

    def __init__(self, destination: int, protocol: Literal["syslog", "lines", "relp"] = "syslog") -> None:
        super().__init__("imptcp")
        self._destination = destination
        self._protocol = protocol

    def _configuration(self) -> str:
        module, action = _ACTIONS[self._protocol]
        return _FORWARDING.format(
            folder=self._place.path,
            size=self._size,
            host=self.host,
            port=self.port,
            destination=self._destination,
            module=module,
            action=action,
        )
