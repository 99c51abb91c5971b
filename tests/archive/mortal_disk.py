"""A disk that dies at a chosen call, as a killed process leaves it or as a power cut does.

A kill leaves what was written, and half of what was being written. A power cut takes whatever was not synced as well:
bytes, and names in folders. Nothing is really synced. Folders made with `make_folder` are durable at once, which is
what it promises.
"""

import os
from pathlib import Path

from relay.system.disk import Disk, File


class DiedError(BaseException):
    """The process is no more; nothing may handle it."""


class MortalFile(File):
    """Counts its calls with its disk."""

    def __init__(self, file: File, disk: "MortalDisk") -> None:
        super().__init__(file.path, file.descriptor)
        self._disk = disk

    def write(self, data: bytes | memoryview, offset: int) -> None:
        if self._disk.last_call():
            super().write(bytes(data)[: len(data) // 2], offset)
            raise DiedError
        super().write(data, offset)

    def sync(self) -> None:
        self._disk.call()  # nothing else: what a power cut leaves is `contents`
        self._disk.contents[self.path] = Path(self.path).read_bytes()

    def truncate(self, size: int) -> None:
        self._disk.call()
        super().truncate(size)


class MortalDisk(Disk):
    """Dies at the call of that number (from 1); 0 lives for ever."""

    def __init__(self, dies_at: int = 0) -> None:
        self.calls = 0
        self.contents: dict[str, bytes] = {}
        self._dies_at = dies_at
        self._names: dict[str, bytes | None] = {}  # what a name not yet synced stood for before

    def last_call(self) -> bool:
        self.calls += 1
        return self.calls == self._dies_at

    def call(self) -> None:
        if self.last_call():
            raise DiedError

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        if os.path.exists(path):
            self.contents.setdefault(path, Path(path).read_bytes())
        elif create:
            self.call()
            self._names.setdefault(path, None)
            self.contents[path] = b""
        return MortalFile(super().open(path, create=create, writable=writable), self)

    def replace(self, source: str, target: str) -> None:
        self.call()
        before = self.contents.get(target, Path(target).read_bytes()) if os.path.exists(target) else None
        self._names.setdefault(target, before)
        super().replace(source, target)
        self.contents[target] = self.contents.pop(source)
        self._names.pop(source, None)

    def remove(self, path: str) -> None:
        self.call()
        super().remove(path)
        self.contents.pop(path, None)
        self._names.pop(path, None)

    def sync_folder(self, path: str) -> None:
        self.call()
        for name in [name for name in self._names if os.path.dirname(name) == path]:
            del self._names[name]

    def cut_power(self) -> None:
        """Put the files into the state that the disk has after a power cut."""
        for path, content in self.contents.items():
            if os.path.exists(path):
                Path(path).write_bytes(content)
        for path, before in self._names.items():
            if before is None:
                Path(path).unlink(missing_ok=True)
            else:
                Path(path).write_bytes(before)
