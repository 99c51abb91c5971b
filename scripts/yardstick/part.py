"""One process of a measurement, which can be stopped and started again; its usage adds up over its lives."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.process import Process
from harness.waiting import wait_until

from scripts.yardstick.usage import Usage, of_tree


class Part:
    """A command that runs in `log`'s folder, from `start` or in the `with` block."""

    def __init__(self, argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.argv = list(argv)
        self.log_file = log
        self._environment = environment
        self._process: Process | None = None
        self._former = Usage()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return when it is `ready`."""
        self._process = Process(self.argv, self.log_file, self._environment)
        wait_until(lambda: self.ready() or not self.running, 30, lambda: f"{self.argv[0]} is ready:\n{self.log}")
        if not self.running:
            raise AssertionError(f"{self.argv[0]} ended at once:\n{self.log}")

    def ready(self) -> bool:
        """Return whether it does its work, for kinds that can show it."""
        return True

    @property
    def pid(self) -> int:
        """Return its present process; AssertionError when it is not started."""
        assert self._process is not None, "not started"  # noqa: S101  as in tests/harness
        return self._process.pid

    @property
    def running(self) -> bool:
        """Return whether the process lives."""
        return self._process is not None and self._process.running

    @property
    def log(self) -> str:
        """Return its whole log."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def usage(self) -> Usage:
        """Return its usage in all lives."""
        return self._former + of_tree(self.pid) if self.running else self._former

    def stop(self) -> None:
        """End it as its service would."""
        if self._process is not None:
            self._former = self.usage()
            self._process.stop()

    def kill(self) -> None:
        """End it and all its descendants with SIGKILL."""
        if self._process is not None:
            self._former = self.usage()
            self._process.kill()
