"""One forwarder, an SSH server, and a far end, put together for a measurement.

    with Sshd() as sshd, Rig("relay", sshd) as rig:     # sshd and the far end run, the tunnel too when one is needed
        rig.audit_log.write_bytes(records)
        rig.forwarder.start()
        wait_until(lambda: rig.far_end.records >= count, 60, "all records have come")
        rig.usage()

All files are in one temporary folder ($TMPDIR), which is removed afterwards, and every process is ended.
"""

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, cast

from harness.openssh import Sshd
from harness.process import Workplace

from scripts.yardstick.far_end import RelayReceive, Sink
from scripts.yardstick.forwarders import FORWARDERS, Tunnel, way
from scripts.yardstick.usage import Usage, of_tree

if TYPE_CHECKING:
    from scripts.yardstick.part import Part

FarEnd = Literal["sink", "relay"]
PARTS: Final = ("forwarder", "ssh", "sshd", "far end")


class Rig:
    """See above. `keep`, `trace` and `octets_a_second` are the sink's (`far_end.Sink`)."""

    def __init__(
        self,
        name: str,
        sshd: Sshd,
        far_end: FarEnd = "sink",
        *,
        keep: bool = False,
        trace: bool = False,
        octets_a_second: int = 0,
    ) -> None:
        self._place = Workplace(f"yardstick-{name}")
        self.folder = self._place.path
        self.name = name
        self.kind = FORWARDERS[name]
        self.sshd = sshd
        self.far_end: Sink | RelayReceive = (
            Sink(self.folder, keep=keep, trace=trace, octets_a_second=octets_a_second)
            if far_end == "sink"
            else RelayReceive(self.folder, tls=self.kind.tls, ssh=self.kind.own_ssh_end)
        )
        own = self.far_end.ssh_end if isinstance(self.far_end, RelayReceive) else None
        self._way = way(self.folder, cast("Sshd", own) if own else sshd, self.far_end.port)
        self.audit_log = self._way.audit_log
        self.tunnel: Tunnel | None = Tunnel(self._way) if self.kind.needs_tunnel else None
        self.forwarder: Part = self.kind.make(self._way)
        self._parts = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as starting:
            starting.callback(self._place.remove)
            starting.enter_context(self.far_end)
            if self.tunnel is not None:
                starting.enter_context(self.tunnel)
            starting.callback(self.forwarder.kill)
            self._parts = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.close()

    def usage(self) -> dict[str, Usage]:
        """Return the usage of each of PARTS so far; sshd's since its start."""
        return {
            "forwarder": self.forwarder.usage(),
            "ssh": self.tunnel.usage() if self.tunnel else Usage(),
            "sshd": of_tree(self.sshd.pid),
            "far end": self.far_end.usage(),
        }
