"""A foreign program that listens: started, watched until it listens, and started again on another port if necessary.

Each kind of peer gives its command and, where the kernel's table does not show it, whether it listens.
"""

from types import TracebackType
from typing import Self

from harness.debian import Root
from harness.ports import LOOPBACK, free_port, listens
from harness.process import Process, Workplace
from harness.waiting import wait_until

_TAKEN = ("Address already in use", "could not activate relp listener")
_ATTEMPTS = 5
_PATIENCE = 60.0  # seconds for a program to start


class Peer:
    """It runs in the `with` block; it may be stopped, killed and started again on its port."""

    def __init__(self, name: str, root: Root, *, host: str = LOOPBACK, port: int | None = None) -> None:
        """`port` is for a peer whose port is chosen elsewhere."""
        self._root = root
        self._place = Workplace(name)
        self._process: Process | None = None
        self.folder = self._place.path
        self.host = host
        self.port = port or free_port()
        self._log_file = self.folder / f"{name}.log"

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
            self._log_file.unlink(missing_ok=True)
            self._process = Process(self._command(), self._log_file, self._environment())
            if self._begins():
                return
            assert first, self.log
            self.port = free_port()
        raise AssertionError(self.log)

    def _command(self) -> list[str]:
        """Write its configuration for `port`, and return its command."""
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return self._root.environment()

    def _listens(self) -> bool:
        return listens(self.port, pid=self.pid)

    def _begins(self) -> bool:
        """Return whether it listens; False when another program had taken the port."""
        process = self._running
        wait_until(
            lambda: self._listens() or self._was_refused() or not process.running, _PATIENCE, lambda: process.log
        )
        if process.running and not self._was_refused():
            return True
        process.kill()
        assert self._was_refused(), process.log
        return False

    def _was_refused(self) -> bool:
        return any(words in self.log for words in _TAKEN)

    @property
    def _running(self) -> Process:
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        """The process that listens."""
        return self._running.pid

    @property
    def log(self) -> str:
        """Its log since it was last started."""
        return self._running.log

    def stop(self) -> None:
        """End it as its service would."""
        self._running.stop()

    def kill(self) -> None:
        """Kill it, and every process that it started."""
        self._running.kill()
