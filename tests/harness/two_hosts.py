"""Two hosts with a cable between them: two network namespaces, joined by a veth pair.

A command that begins with `router` or `server` runs there. A sleeping process holds each namespace.
"""

import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from harness.debian import IPROUTE, fetch
from harness.waiting import wait_until

ROUTER: Final = "192.0.2.1"  # RFC 5737, TEST-NET-1
SERVER: Final = "192.0.2.2"


class TwoHosts:
    """They are connected in the `with` block."""

    def __enter__(self) -> Self:
        self._root = fetch(IPROUTE)
        with ExitStack() as undo:
            rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
            _, self.router = _host(undo, [_path("unshare"), *rights, "--net"])
            server, self.server = _host(undo, [*self.router, _path("unshare"), "--net"])
            self._ip(self.router, f"link add cable type veth peer name cable netns {server}")
            for host, address in ((self.router, ROUTER), (self.server, SERVER)):
                self._ip(host, f"address add {address}/24 dev cable")
                self._ip(host, "link set cable up")
                self._ip(host, "link set lo up")
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def cut(self) -> None:
        """Cut the cable: nothing arrives, and neither host is notified."""
        self._ip(self.server, "link set cable down")

    def reconnect(self) -> None:
        """Connect them again."""
        self._ip(self.server, "link set cable up")

    def _ip(self, host: list[str], words: str) -> None:
        argv = [*host, self._root.file("sbin/ip"), *words.split()]
        done = subprocess.run(
            argv, env=self._root.environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"


def _host(undo: ExitStack, unshare: list[str]) -> tuple[int, list[str]]:
    """Return a namespace, held until undone: the holder's process id, and the beginning of a command there."""
    holder = subprocess.Popen([*unshare, _path("sleep"), "infinity"])
    undo.callback(holder.wait)
    undo.callback(holder.kill)
    # Before it sleeps it may still be in the former namespace, or without its rights.
    wait_until(lambda: _sleeps(holder.pid) or holder.poll() is not None, 60, "the namespace")
    assert holder.poll() is None, "no network namespace could be made"
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return holder.pid, [_path("nsenter"), "--target", str(holder.pid), *user, "--net"]


def _sleeps(pid: int) -> bool:
    """Return whether it already holds the namespace."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    except OSError:
        return False


def _path(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"{name} (Debian package util-linux or coreutils) is needed"
    return path
