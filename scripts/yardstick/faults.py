"""Faults as values: each strikes a rig at one moment and ends after some seconds.

A fault ends or freezes only processes that the rig started.
"""

import functools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.process import descendants, signal_all
from harness.waiting import wait_until

from scripts.yardstick.far_end import RelayReceive
from scripts.yardstick.forwarders import is_relay
from scripts.yardstick.rig import Rig

Heal = Callable[[], None]
RELOADS: Final = 10
RELOAD_SECONDS: Final = 60.0
"""A reload must end within this time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of fault."""

    name: str
    what: str
    """For people."""
    strike: Callable[[Rig], Heal]
    """Strikes, and returns the function that ends the fault."""
    seconds: float
    """From the strike to the end of the fault."""
    of_relay_alone: bool = False
    """Whether other programs cannot do what this fault requires."""
    octets_a_second: int = 0
    """How fast the collector reads during the whole run; 0: as fast as it can. Only the sink can be slow."""


def _nothing_to_heal() -> None:
    """The forwarder, or the supervisor of `ssh -L`, connects again."""


def _kill_session(rig: Rig) -> Heal:
    """Kill the process that carries the forwarder's octets: sshd's session, or the forwarder's `ssh -L`."""
    if rig.tunnel is None:
        signal_all(descendants(rig.sshd.pid), signal.SIGKILL)
    else:
        rig.tunnel.kill()
    return _nothing_to_heal


def _kill_sshd(rig: Rig) -> Heal:
    pid = rig.sshd.pid
    signal_all([pid, *descendants(pid)], signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # Sshd.kill alone waits for logins in progress
    rig.sshd.kill()
    return rig.sshd.start


def _freeze_session(rig: Rig) -> Heal:
    frozen = descendants(rig.sshd.pid)
    signal_all(frozen, signal.SIGSTOP)
    return lambda: signal_all(frozen, signal.SIGCONT)


def _kill_collector(rig: Rig) -> Heal:
    rig.far_end.kill()
    return rig.far_end.start


def _kill_forwarder(rig: Rig) -> Heal:
    rig.forwarder.kill()
    return rig.forwarder.start


def _await_start(rig: Rig) -> None:
    """A program that is still being loaded cannot handle a signal yet."""
    if is_relay(rig.name):
        wait_until(lambda: "ready: " in rig.forwarder.log, RELOAD_SECONDS, lambda: rig.forwarder.log)


def _hang_up(rig: Rig) -> Heal:
    _await_start(rig)
    os.kill(rig.forwarder.pid, signal.SIGHUP)
    if isinstance(rig.far_end, RelayReceive):
        os.kill(rig.far_end.pid, signal.SIGHUP)
    return _nothing_to_heal


def reloads(count: int) -> Callable[[Rig], Heal]:
    """That many reloads one after the other, each with a server and a source that have changed."""

    def strike(rig: Rig) -> Heal:
        _await_start(rig)
        configuration = rig.folder / "relay.toml"
        for changed in changed_configurations(configuration.read_text(), count):
            configuration.write_text(changed)
            before = rig.forwarder.log.count("reloaded: ")
            os.kill(rig.forwarder.pid, signal.SIGHUP)
            wait_until(functools.partial(_has_reloaded, rig, before), RELOAD_SECONDS, lambda: rig.forwarder.log)
        return _nothing_to_heal

    return strike


def changed_configurations(text: str, count: int) -> list[str]:
    """That many configurations, an even number. The last one is `text`, so that they can be made of it again."""
    one = text.replace('"64KiB"', '"65KiB"').replace("[[source]]", '[[source]]\nstart = "now"')
    return [one, text] * (count // 2)


def _has_reloaded(rig: Rig, before: int) -> bool:
    return rig.forwarder.log.count("reloaded: ") > before


SESSION: Final = Fault(name="session", what="SSH session killed", strike=_kill_session, seconds=3)
COLLECTOR: Final = Fault(
    name="collector", what="collector killed for 3 s, tunnel up", strike=_kill_collector, seconds=3
)
FAULTS: Final = {
    fault.name: fault
    for fault in (
        SESSION,
        Fault(name="sshd", what="sshd killed for 10 s", strike=_kill_sshd, seconds=10),
        Fault(name="frozen", what="sshd's session stopped for 30 s", strike=_freeze_session, seconds=30),
        COLLECTOR,
        Fault(name="collector-10", what="collector killed for 10 s, tunnel up", strike=_kill_collector, seconds=10),
        Fault(
            name="slow",
            what="collector reads 4 MB/s, SSH session killed",
            strike=_kill_session,
            seconds=3,
            octets_a_second=4_000_000,
        ),
        Fault(name="forwarder", what="forwarder killed, back after 1 s", strike=_kill_forwarder, seconds=1),
        Fault(name="hup", what="SIGHUP, the same configuration", strike=_hang_up, seconds=1),
        Fault(
            name="reload",
            what=f"{RELOADS} reloads, each with another server and source",
            strike=reloads(RELOADS),
            seconds=1,
            of_relay_alone=True,
        ),
    )
}
"""By name. Where the collector is `relay receive`, the receiver is killed."""
