"""The forwarders that are measured: relay, and rsyslog and syslog-ng as users would configure them for the same work.

Each follows one audit log and sends it, as RFC 5424 with the SD-ID 128T, to a collector behind an SSH server. relay has
its own SSH session; the others send to the local end of OpenSSH's `ssh -N -L`. All can be killed and started again.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.certificates import SERVER
from harness.debian import OPENSSH, RSYSLOG, SYSLOG_NG, fetch
from harness.openssh import Sshd, ssh_command
from harness.ports import LOOPBACK, free_port, listens
from harness.relay import RELAY, Router
from harness.syslog_ng import syslog_ng_command, syslog_ng_environment

from scripts.yardstick.far_end import authority
from scripts.yardstick.part import Part

RELP_WINDOW: Final = 10_000
"""omrelp's own 128 limits it to 4,000 messages a second."""
_STATIC: Final = (
    "<110>1 %timegenerated:::date-rfc3339% combo1 auditd - - "
    '[128T type=\\"audit\\" router=\\"combo1\\" node=\\"test1\\"] %msg%'
)
_PARSED: Final = (
    "<110>1 %timegenerated:::date-rfc3339% combo1 auditd - "
    "%msg:R,ERE,1,DFLT:type=([A-Z_]+)--end% "
    '[128T type=\\"audit\\" router=\\"combo1\\" node=\\"test1\\" '
    'serial=\\"%msg:R,ERE,1,DFLT:audit\\\\([0-9.]+:([0-9]+)--end%\\" '
    'pid=\\"%msg:R,ERE,1,DFLT: pid=([0-9]+)--end%\\" '
    'res=\\"%msg:R,ERE,1,DFLT: res=([a-z]+)--end%\\"] %msg%'
)
_RSYSLOG: Final = """\
global(workDirectory="{folder}" maxMessageSize="64k")
module(load="imfile" mode="inotify")
{load}
template(name="framed" type="string" string="{template}")
ruleset(name="forward" {ruleset_queue}) {{
  action({action} target="{host}" port="{port}" template="framed"
         action.resumeRetryCount="-1" action.resumeInterval="1" {action_queue})
}}
input(type="imfile" file="{audit_log}" tag="auditd" ruleset="forward"
      persistStateInterval="1000" persistStateAfterSubmission="on")
"""
_TCP: Final = 'type="omfwd" protocol="tcp" tcp_framing="octet-counted"'
_RELP: Final = f'type="omrelp" windowSize="{RELP_WINDOW}"'
_MEMORY_FIRST: Final = (
    'queue.type="LinkedList" queue.filename="q" queue.size="50000" queue.maxDiskSpace="2g" queue.saveOnShutdown="on"'
)
_DISK: Final = 'queue.type="Disk" queue.filename="q" queue.size="2000000" queue.maxDiskSpace="2g"'
_CAREFUL: Final = f'{_DISK} queue.maxFileSize="1m" queue.checkpointInterval="1"'
_SYNC: Final = f'{_CAREFUL} queue.syncQueueFiles="on"'
_DIRECT: Final = 'queue.type="Direct"'

_SYSLOG_NG: Final = """\
@version: current
options {{ time-reopen(1); use-dns(no); keep-hostname(yes); stats-freq(0); log-msg-size(65536); }};
source audit {{ file("{audit_log}" follow-freq(1) flags(no-parse) program-override("auditd") host-override("combo1")
  log-iw-size(10000) log-fetch-limit(1000)); }};
{parser}
rewrite element {{ set("audit" value(".SDATA.128T.type")); set("combo1" value(".SDATA.128T.router"));
  set("test1" value(".SDATA.128T.node")); set-facility("13"); set-severity("6"); }};
destination server {{ syslog("{host}" port({port}) transport("tcp") log-fifo-size(20000)
  disk-buffer(reliable(yes) disk-buf-size(2000000000) mem-buf-size(67108864) dir("{folder}"))); }};
log {{ source(audit); {use_parser} rewrite(element); destination(server); flags(flow-control); }};
"""
_AUDIT_PARSER: Final = """\
parser fields { linux-audit-parser(prefix(".SDATA.128T.")); };
parser message { linux-audit-parser(template("${.SDATA.128T.msg}") prefix(".SDATA.128T.")); };
rewrite no_message { unset(value(".SDATA.128T.msg")); };"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where a forwarder reads and where it sends; the folder is its own."""

    folder: Path
    sshd: Sshd
    remote_port: int
    local_port: int
    """The local end of the port-forwarding: ssh's, or the one that relay's configuration names."""

    @property
    def audit_log(self) -> Path:
        """The log that it follows."""
        return self.folder / "audit.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A forwarder that can be measured."""

    what: str
    """Its configuration, for people."""
    make: Callable[[Way], Part]
    needs_tunnel: bool = True
    tls: bool = False
    """It speaks TLS, so its far end must."""
    own_ssh_end: bool = False
    """Its far end is `relay receive` with an SSH end of its own."""
    slow: bool = False
    """It gets a twentieth of the records, because a run would take an hour otherwise."""


class Tunnel(Part):
    """`ssh -N -L`: the local port that leads to a port behind the SSH server."""

    def __init__(self, way: Way) -> None:
        self.local_port = way.local_port
        root = fetch(OPENSSH)
        forward = f"{LOOPBACK}:{way.local_port}:{LOOPBACK}:{way.remote_port}"
        options = (
            "ExitOnForwardFailure=yes",
            "Ciphers=aes128-gcm@openssh.com",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=3",
        )
        argv = [
            *ssh_command(root, key=way.sshd.client_key, known_hosts=way.sshd.known_hosts, port=way.sshd.port),
            *(word for option in options for word in ("-o", option)),
            *("-N", "-T", "-L", forward, f"{way.sshd.user}@{way.sshd.host}"),
        ]
        super().__init__(argv, way.folder / "ssh.log", root.environment())

    def ready(self) -> bool:
        """Return whether its local port listens, which begins only after the login."""
        return listens(self.local_port)


def _relay(protocol: str = "syslog", *, tls: bool = False) -> Callable[[Way], Part]:
    def make(way: Way) -> Part:
        keys = {"transport": "tls", "ca": str(authority(way.folder)), "server-name": SERVER} if tls else {}
        router = Router(way.folder, way.sshd, way.remote_port, local_port=way.local_port, protocol=protocol, **keys)
        return Part([*RELAY, "-c", str(router.configuration), "run"], way.folder / "relay.log")

    return make


def _rsyslog(
    action: str = _TCP, *, template: str = _STATIC, ruleset_queue: str = "", action_queue: str = _DIRECT
) -> Callable[[Way], Part]:
    def make(way: Way) -> Part:
        root = fetch(RSYSLOG)
        configuration = way.folder / "rsyslog.conf"
        configuration.write_text(
            _RSYSLOG.format(
                folder=way.folder,
                load='module(load="omrelp")' if action is _RELP else "",
                template=template,
                ruleset_queue=ruleset_queue,
                action=action,
                host=LOOPBACK,
                port=way.local_port,
                action_queue=action_queue,
                audit_log=way.audit_log,
            )
        )
        argv = [
            *(root.file("usr/sbin/rsyslogd"), "-n", "-f", str(configuration), "-i", str(way.folder / "pid")),
            *("-M", root.file(f"lib/{os.uname().machine}-linux-gnu/rsyslog")),
        ]
        return Part(argv, way.folder / "rsyslog.log", root.environment())

    return make


def _syslog_ng(*, parsed: bool = False) -> Callable[[Way], Part]:
    def make(way: Way) -> Part:
        configuration = way.folder / "syslog-ng.conf"
        configuration.write_text(
            _SYSLOG_NG.format(
                audit_log=way.audit_log,
                parser=_AUDIT_PARSER if parsed else "",
                use_parser="parser(fields); parser(message); rewrite(no_message);" if parsed else "",
                folder=way.folder,
                host=LOOPBACK,
                port=way.local_port,
            )
        )
        return syslog_ng(configuration)

    return make


def syslog_ng(configuration: Path) -> Part:
    """syslog-ng with a configuration, its state beside it."""
    root = fetch(SYSLOG_NG)
    folder = configuration.parent
    argv = [
        *syslog_ng_command(root, configuration),
        *("-R", str(folder / "persist"), "-p", str(folder / "pid"), "-c", str(folder / "control")),
    ]
    return Part(argv, folder / "syslog-ng.log", syslog_ng_environment(root))


RELAY_NAME: Final = "relay"
"""The one whose protocol is syslog."""
RELAY_TLS: Final = "relay-tls"
"""The one that speaks TLS."""

FORWARDERS: Final[dict[str, Kind]] = {
    RELAY_NAME: Kind(what="every field decoded, fsync, proven by draining", make=_relay(), needs_tunnel=False),
    "relay-relp": Kind(what="the same, proven by RELP's answers", make=_relay("relp"), needs_tunnel=False),
    "relay-auditd": Kind(what="the same, proven by auditd's answers", make=_relay("auditd"), needs_tunnel=False),
    RELAY_TLS: Kind(what="the same, by TLS in the SSH session", make=_relay(tls=True), needs_tunnel=False, tls=True),
    "relay-ssh": Kind(
        what="the same, by the receiver's own SSH end", make=_relay(), needs_tunnel=False, own_ssh_end=True
    ),
    "rsyslog-memory": Kind(what="memory first, then disk", make=_rsyslog(action_queue=_MEMORY_FIRST)),
    "rsyslog-parsed": Kind(
        what="memory first, then disk; four fields by regular expression",
        make=_rsyslog(template=_PARSED, action_queue=_MEMORY_FIRST),
    ),
    "rsyslog-disk": Kind(what="disk queue", make=_rsyslog(action_queue=_DISK)),
    "rsyslog-careful": Kind(what="disk queue, checkpoint each message", make=_rsyslog(ruleset_queue=_CAREFUL)),
    "rsyslog-careful-fsync": Kind(
        what="disk queue, checkpoint and fsync each message", make=_rsyslog(ruleset_queue=_SYNC), slow=True
    ),
    "rsyslog-relp": Kind(
        what=f"RELP, window {RELP_WINDOW}; memory first, then disk",
        make=_rsyslog(_RELP, action_queue=_MEMORY_FIRST),
    ),
    "syslog-ng": Kind(what="reliable disk buffer", make=_syslog_ng()),
    "syslog-ng-parsed": Kind(what="reliable disk buffer; linux-audit-parser", make=_syslog_ng(parsed=True)),
}
"""By name; relay first."""


def is_relay(name: str) -> bool:
    """Return whether it is relay, with any protocol."""
    return name.startswith(RELAY_NAME)


def way(folder: Path, sshd: Sshd, remote_port: int) -> Way:
    """Return a forwarding through the server to the port, from a free local port."""
    return Way(folder=folder, sshd=sshd, remote_port=remote_port, local_port=free_port())
