"""Writes an archive for thirty originators and reports how it was synced: ARCHIVE."""

import sys
from collections.abc import Callable

from archive.messages import NOON_US, foreign

from relay.archive.writer.archive_writer import ArchiveWriter
from relay.system.disk import Disk, File
from relay.system.files.file_system import FileSystem

synced: list[str] = []


class WatchedFile(File):
    """Notes what is synced."""

    def sync(self) -> None:
        synced.append(self.path.rpartition("/")[2].rpartition(".")[2])
        super().sync()


class WatchedDisk(Disk):
    """Opens such files."""

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        file = super().open(path, create=create, writable=writable)
        return WatchedFile(file.path, file.descriptor)


def sync_all(file_system: FileSystem, sync: Callable[[FileSystem], None] = FileSystem.sync) -> None:
    """Note that all is synced."""
    synced.append("all")
    sync(file_system)


def main() -> None:
    FileSystem.sync = sync_all  # type: ignore[method-assign,assignment]
    with ArchiveWriter(sys.argv[1], "spool", disk=WatchedDisk()) as writer:
        synced.clear()
        for number in range(30):
            writer.write(foreign(number, host=f"switch{number}"), NOON_US)
        writer.commit(b"1")
    sys.stdout.write(f"{sorted(set(synced))}\n")


if __name__ == "__main__":
    main()
