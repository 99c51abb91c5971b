"""A private rsyslogd that collects syslog over TCP or RELP and keeps every message byte for byte.

rsyslog escapes control characters and cuts at 8 KiB unless told not to. It writes what it received octet-counted
(`LENGTH SP MESSAGE`), so a message may hold LF; only NUL bytes do not survive it.
"""

import os
from collections.abc import Sequence
from typing import Literal

from harness.debian import RSYSLOG, fetch
from harness.peer import Peer
from harness.ports import LOOPBACK, listens
from harness.waiting import wait_until

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


class Rsyslog(Peer):
    """A collector. Stopped, it writes first what it has read; killed, it loses that."""

    def __init__(
        self,
        module: Literal["imtcp", "imptcp", "imrelp", "imudp"] = "imptcp",
        max_message_size: int = 1 << 20,
        *,
        host: str = LOOPBACK,
        prefix: Sequence[str] = (),
    ) -> None:
        """`prefix` begins its command: what takes it to another host, where `host` is an address."""
        super().__init__("rsyslog", fetch(RSYSLOG), host=host)
        self._module = module
        self._size = max_message_size
        self._prefix = prefix
        self.output = self.folder / "collected"

    def _command(self) -> list[str]:
        folder = self.folder
        (folder / "rsyslog.conf").write_text(self._configuration())
        modules = self._root.file(f"lib/{os.uname().machine}-linux-gnu/rsyslog")
        return [
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

    def _configuration(self) -> str:
        return _CONFIGURATION.format(
            folder=self.folder,
            size=self._size,
            module=self._module,
            output=self.output,
            host=self.host,
            port=self.port,
            input_options=_INPUT_OPTIONS[self._module].format(size=self._size),
        )

    def _listens(self) -> bool:
        return listens(self.port, pid=self.pid, udp=self._module == "imudp")

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
            folder=self.folder,
            size=self._size,
            host=self.host,
            port=self.port,
            destination=self._destination,
            module=module,
            action=action,
        )
