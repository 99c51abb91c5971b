"""A private HAProxy in front of a receiver, which writes a PROXY header before each stream."""

from typing import Literal

from harness.debian import HAPROXY, fetch
from harness.peer import Peer

_CONFIGURATION = """\
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen senders
    bind {host}:{port}
    server receiver {host}:{destination} {option}
"""


class HaProxy(Peer):
    """It passes what `port` accepts on to `destination`."""

    def __init__(self, destination: int, option: Literal["send-proxy", "send-proxy-v2"]) -> None:
        super().__init__("haproxy", fetch(HAPROXY))
        self._destination = destination
        self._option = option

    def _command(self) -> list[str]:
        keys = {"host": self.host, "port": self.port, "destination": self._destination, "option": self._option}
        (self.folder / "haproxy.cfg").write_text(_CONFIGURATION.format(**keys))
        return [self._root.file("usr/sbin/haproxy"), "-db", "-f", str(self.folder / "haproxy.cfg")]
