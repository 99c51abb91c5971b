"""This machine's own audit: the kernel, and a real auditd that reads its records.

Both belong to the whole machine. So each user holds a lock; at the end the daemon is stopped and audit switched off, as
on a machine for tests. Only root is allowed to (`may_audit`). The daemon has a folder and a /run of its own. Every
action in its configuration only logs, because `halt` and `single` would act on this machine.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.auditd import TELLS_ONLY
from harness.debian import AUDITD, fetch
from harness.process import Process, Workplace
from harness.waiting import wait_until
from relay.errors import RelayError
from relay.program.watch.audit_trail.kernel_audit import KernelAudit, read_status

LOCK = Path(tempfile.gettempdir()) / "relay-test-kernel-audit.lock"
"""Users who only send records to the kernel's audit share it."""


def may_audit() -> bool:
    """Return whether this user is allowed to use the kernel's audit."""
    try:
        return os.geteuid() == 0 and read_status().pid >= 0
    except RelayError:
        return False


class KernelAuditd:
    """The daemon, and the lock on the machine's audit, in the `with` block; the daemon can be restarted."""

    def __init__(self, *, log_format: str = "RAW") -> None:
        self._log_format = log_format
        self._root = fetch(AUDITD)
        self._place = Workplace("kernel-auditd")
        self._process: Process | None = None
        self._starts = 0
        self.log_file = self._place.path / "audit.log"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._place.remove)
            fcntl.flock(undo.enter_context(LOCK.open("a")), fcntl.LOCK_EX)
            # The kernel notices that the former daemon has ended only when it has a record for it.
            wait_until(lambda: self.status.pid == 0, 60, "an audit daemon runs on this machine already")
            undo.callback(self._end)
            self._make_configuration()
            self.start()
            self._undo = undo.pop_all()
        return self

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
        self.control("-e", "0")

    def _make_configuration(self) -> None:
        (self._place.path / "plugins.d").mkdir()
        settings = self._place.path / "auditd.conf"
        ours = TELLS_ONLY.format(log=self.log_file, log_format=self._log_format, folder=self._place.path)
        settings.write_text(f"local_events = yes\n{ours}")
        settings.chmod(0o640)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    @property
    def status(self) -> KernelAudit:
        return read_status()

    def control(self, *arguments: str) -> None:
        """Run `auditctl ARGUMENTS`."""
        argv = [self._root.file("sbin/auditctl"), *arguments]
        subprocess.run(argv, env=self._root.environment(), capture_output=True, timeout=60, check=True)

    def load(self, rules: str) -> None:
        """Run `auditctl -R`; rules for another architecture, and rules that exist already, are skipped."""
        file = self._place.path / "audit.rules"
        file.write_text(f"-i\n{rules}")
        file.chmod(0o600)
        argv = [self._root.file("sbin/auditctl"), "-R", str(file)]
        done = subprocess.run(argv, env=self._root.environment(), capture_output=True, timeout=60, check=False)
        assert done.returncode in {0, 1}, done.stderr.decode()

    def start(self) -> None:
        """Start it, switch the kernel's audit on, and return when records are written."""
        script = 'mount -t tmpfs none /run; exec "$@"'
        auditd = [self._root.file("sbin/auditd"), "-n", "-s", "nochange", "-c", str(self._place.path)]
        argv = ["unshare", "--mount", "sh", "-ec", script, "sh", *auditd]
        self._process = process = Process(argv, self._place.path / "auditd.log", self._root.environment())
        wait_until(lambda: self.status.pid == process.pid or not process.running, 60, lambda: process.log)
        assert process.running, process.log
        self.control("-e", "1")
        self._starts += 1
        wait_until(self._writes, 60, lambda: process.log)

    def _writes(self) -> bool:
        """Return whether records arrive; a daemon that has just started drops the first ones."""
        word = f"start-{self._starts}"
        self.control("-m", word)
        return self.log_file.exists() and word in self.log_file.read_text(errors="replace")

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None, "not started"
        self._process.kill()

    def suspend(self) -> None:
        """Freeze it: alive and registered, and doing nothing."""
        assert self._process is not None, "not started"
        self._process.suspend()

    def resume(self) -> None:
        """Let it continue."""
        assert self._process is not None, "not started"
        os.kill(self._process.pid, signal.SIGCONT)
