"""A real disk that fills: a tmpfs of some megabytes in a mount namespace of its own, for any number of commands.

A sleeping process holds the namespace, so the disk outlives the commands that are killed on it.
"""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.waiting import wait_until


class SmallDisk:
    """A tmpfs at `folder`, visible only to commands that begin with `prefix`."""

    def __init__(self, folder: Path, size: str) -> None:
        folder.mkdir()
        self.folder = folder
        ready = folder.with_name(folder.name + ".ready")
        rights = [] if os.geteuid() == 0 else ["--map-root-user"]
        mount = f"mount -t tmpfs -o size={size} none {folder} && echo > {ready} && exec sleep infinity"
        self._holder = subprocess.Popen([_path("unshare"), *rights, "--mount", "sh", "-c", mount])
        wait_until(lambda: ready.exists() or self._holder.poll() is not None, 60, "the tmpfs")
        assert self._holder.poll() is None, "no tmpfs could be mounted"
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        self.prefix = [_path("nsenter"), "--target", str(self._holder.pid), *user, "--mount"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holder.kill()
        self._holder.wait()

    def run(self, *argv: str) -> str:
        """Run a command that sees the disk, and return its output."""
        done = subprocess.run([*self.prefix, *argv], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    @property
    def seen_from_here(self) -> Path:
        """Return the folder's path for a process that is not among the commands, as the test's own."""
        return Path(f"/proc/{self._holder.pid}/root{self.folder}")

    @property
    def free(self) -> int:
        """Octets."""
        return int(self.run("stat", "--file-system", "--format", "%a", str(self.folder))) * 4096


def _path(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"{name} (Debian package util-linux) is needed"
    return path
