"""A private rsyslogd that collects syslog over TCP or RELP and keeps every message byte for byte.

rsyslog escapes control characters and cuts at 8 KiB unless its configuration changes that. It writes what it received
octet-counted (`LENGTH SP MESSAGE`), so a message may hold LF; only NUL octets do not survive.
"""

import os
from collections.abc import Sequence
from typing import Literal

from harness.certificates import SERVER, Shown
from harness.debian import RSYSLOG, fetch
from harness.peer import Peer
from harness.ports import LOOPBACK, listens
from harness.waiting import wait_until

_CONFIGURATION = """\
global(workDirectory="{folder}" maxMessageSize="{size}" parser.escapeControlCharactersOnReceive="off"{global_options})
module(load="{module}"{module_options})
template(name="counted" type="string" string="%$.length% %rawmsg%")
ruleset(name="collect") {{
  set $.length = strlen($rawmsg);
  action(type="omfile" file="{output}" template="counted" flushOnTXEnd="on" asyncWriting="off")
}}
input(type="{module}" address="{host}" port="{port}" ruleset="collect"{input_options})
"""
_FORWARDING = """\
global(workDirectory="{folder}" maxMessageSize="{size}" parser.escapeControlCharactersOnReceive="off"{global_options})
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
_TLS_OF_OMFWD = (
    ' streamDriver="{0.driver}" streamDriverMode="1" streamDriverAuthMode="x509/name"'
    ' streamDriverPermittedPeers="{name}"'
)
_TLS_OF_OMRELP = (
    ' tls="on" tls.caCert="{0.authority}" tls.myCert="{0.pair.certificate}" tls.myPrivKey="{0.pair.key}"'
    ' tls.authMode="name" tls.permittedPeer=["{name}"]'
)
_INPUT_OPTIONS = {"imptcp": "", "imtcp": "", "imudp": "", "imrelp": ' maxDataSize="{size}"'}
_TLS_OF_ALL = (
    ' defaultNetstreamDriverCAFile="{0.authority}" defaultNetstreamDriverCertFile="{0.pair.certificate}"'
    ' defaultNetstreamDriverKeyFile="{0.pair.key}"'
)
_TLS_OF_IMTCP = ' streamDriver.name="{0.driver}" streamDriver.mode="1" streamDriver.authMode="{mode}"'
_TLS_OF_IMRELP = (
    ' tls="on" tls.caCert="{0.authority}" tls.myCert="{0.pair.certificate}" tls.myPrivKey="{0.pair.key}"'
    ' tls.authMode="certvalid"'
)


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
    """A collector. When it is stopped, it first writes what it has read; when it is killed, it loses that."""

    def __init__(
        self,
        module: Literal["imtcp", "imptcp", "imrelp", "imudp"] = "imptcp",
        max_message_size: int = 1 << 20,
        *,
        host: str = LOOPBACK,
        prefix: Sequence[str] = (),
        tls: Shown | None = None,
        nul_ends_lines: bool = False,
    ) -> None:
        """`prefix` begins its command: it may move it to another host, where `host` is an address."""
        super().__init__("rsyslog", fetch(RSYSLOG), host=host)
        self._module = module
        self._size = max_message_size
        self._prefix = prefix
        self._tls = tls
        self._options = _INPUT_OPTIONS[module].format(size=max_message_size)
        self._options += ' addtlFrameDelimiter="0"' if nul_ends_lines else ""
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
        by_tcp = self._tls is not None and self._module == "imtcp"
        by_relp = self._tls is not None and self._module == "imrelp"
        return _CONFIGURATION.format(
            folder=self.folder,
            size=self._size,
            module=self._module,
            output=self.output,
            host=self.host,
            port=self.port,
            global_options=_TLS_OF_ALL.format(self._tls) if by_tcp else "",
            module_options=self._tls_of_imtcp() if by_tcp else "",
            input_options=self._options + (_TLS_OF_IMRELP.format(self._tls) if by_relp else ""),
        )

    def _tls_of_imtcp(self) -> str:
        anyone = self._tls is not None and self._tls.anyone
        return _TLS_OF_IMTCP.format(self._tls, mode="anon" if anyone else "x509/certvalid")

    def _listens(self) -> bool:
        return listens(self.port, pid=self.pid, udp=self._module == "imudp")

    def messages(self) -> list[bytes]:
        """Return every message collected so far, in order, octet for octet; also after a restart."""
        return _octet_counted(self.output.read_bytes()) if self.output.exists() else []

    def wait_for_messages(self, count: int, seconds: float = 60) -> list[bytes]:
        """Return the messages when there are at least that many."""
        wait_until(
            lambda: len(self.messages()) >= count,
            seconds,
            lambda: f"{count} messages; there are {len(self.messages())}",
        )
        return self.messages()


class AbortingRsyslog(Rsyslog):
    """A collector whose imrelp ends the session on a message larger than `max_message_size`."""

    def __init__(self, max_message_size: int, *, tls: Shown | None = None) -> None:
        super().__init__("imrelp", max_message_size, tls=tls)
        self._options += ' oversizeMode="abort"'


class RsyslogByName(Rsyslog):
    """A collector that keeps the names of a message's facility and severity: `kern.emerg`."""

    def _configuration(self) -> str:
        names = "%syslogfacility-text%.%syslogseverity-text%\\n"
        return super()._configuration().replace("%$.length% %rawmsg%", names)

    def messages(self) -> list[bytes]:
        """Return every message's names, in order."""
        return self.output.read_bytes().split(b"\n")[:-1] if self.output.exists() else []


class RsyslogForwarder(Rsyslog):
    """A local program that forwards what its port receives to `destination`, octet for octet.

    While the destination refuses, omfwd or omrelp tries again every second and keeps its messages.
    """

    def __init__(
        self,
        destination: int,
        protocol: Literal["syslog", "lines", "relp"] = "syslog",
        *,
        tls: Shown | None = None,
        more: str = "",
    ) -> None:
        """With `tls` it shows that certificate, and requires a destination called SERVER; `more` of its action."""
        super().__init__("imptcp", tls=tls)
        self._destination = destination
        self._protocol = protocol
        self._more = more

    def _configuration(self) -> str:
        module, action = _ACTIONS[self._protocol]
        action += f" {self._more}"
        global_options = ""
        if self._tls is not None:
            by_relp = self._protocol == "relp"
            if by_relp:
                library = "openssl" if self._tls.driver == "ossl" else "gnutls"
                module = f'module(load="omrelp" tls.tlslib="{library}")'
            action += (_TLS_OF_OMRELP if by_relp else _TLS_OF_OMFWD).format(self._tls, name=SERVER)
            global_options = "" if by_relp else _TLS_OF_ALL.format(self._tls)
        return _FORWARDING.format(
            folder=self.folder,
            size=self._size,
            host=self.host,
            port=self.port,
            destination=self._destination,
            module=module,
            action=action,
            global_options=global_options,
        )
