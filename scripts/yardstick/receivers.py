"""The receivers that are measured: `relay receive`, and rsyslog and syslog-ng as their users would configure them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from harness.debian import RSYSLOG, fetch
from harness.ports import LOOPBACK, free_port, listens

from scripts.yardstick.far_end import RelayReceive
from scripts.yardstick.forwarders import RELAY_NAME, syslog_ng
from scripts.yardstick.part import Part

Protocol = Literal["stream", "relp"]

_RSYSLOG: Final = """\
global(workDirectory="{folder}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
module(load="{module}")
template(name="raw" type="string" string="%rawmsg%\\n")
ruleset(name="archive") {{ action(type="omfile" file="{folder}/collected" template="raw") }}
input(type="{module}" address="{host}" port="{port}" ruleset="archive")
"""
_SYSLOG_NG: Final = """\
@version: current
options {{ use-dns(no); keep-hostname(yes); stats-freq(0); log-msg-size(65536); }};
source senders {{ syslog(ip("{host}") port({port}) transport("tcp") max-connections(256)
  log-iw-size(256000) log-fetch-limit(1000)); }};
destination archive {{ file("{folder}/collected" flags(syslog-protocol)); }};
log {{ source(senders); destination(archive); flags(flow-control); }};
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A receiver to be started, and the folder of its messages."""

    part: Part
    port: int
    files: Callable[[], list[Path]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A receiver that can be measured."""

    what: str
    make: Callable[[Path], Receiver]
    protocol: Protocol = "stream"


def _relay(folder: Path) -> Receiver:
    receiver = RelayReceive(folder)
    return Receiver(part=receiver, port=receiver.port, files=receiver.kept)


def _rsyslog(module: str) -> Callable[[Path], Receiver]:
    def make(folder: Path) -> Receiver:
        root, port = fetch(RSYSLOG), free_port()
        configuration = folder / "rsyslog.conf"
        configuration.write_text(_RSYSLOG.format(folder=folder, module=module, host=LOOPBACK, port=port))
        argv = [
            *(root.file("usr/sbin/rsyslogd"), "-n", "-f", str(configuration), "-i", str(folder / "pid")),
            *("-M", root.file(f"lib/{os.uname().machine}-linux-gnu/rsyslog")),
        ]
        return _collecting(Part(argv, folder / "rsyslog.log", root.environment()), folder, port)

    return make


def _syslog_ng(folder: Path) -> Receiver:
    port = free_port()
    configuration = folder / "syslog-ng.conf"
    configuration.write_text(_SYSLOG_NG.format(folder=folder, host=LOOPBACK, port=port))
    return _collecting(syslog_ng(configuration), folder, port)


def _collecting(part: Part, folder: Path, port: int) -> Receiver:
    collected = folder / "collected"
    return Receiver(part=part, port=port, files=lambda: [collected] if collected.exists() else [])


def is_ready(receiver: Receiver) -> bool:
    """Return whether it listens."""
    return listens(receiver.port)


RECEIVERS: Final[dict[str, Kind]] = {
    RELAY_NAME: Kind(what="fsync before accepting; each message once", make=_relay),
    "rsyslog-imptcp": Kind(what="memory queue, no fsync", make=_rsyslog("imptcp")),
    "rsyslog-imrelp": Kind(what="RELP; memory queue, no fsync", make=_rsyslog("imrelp"), protocol="relp"),
    "syslog-ng": Kind(what="flow control, no fsync", make=_syslog_ng),
}
"""By name; relay first."""
