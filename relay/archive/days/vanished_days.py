"""Closed days whose log somebody else deleted or moved: named once, and remembered for `relay archive verify`.

`ARCHIVE/.relay/vanished.json` has them as {"ORIGINATOR/2026-11-30": TIME}, with the time at which relay noticed it, in
microseconds since the epoch. A day that retention removed has a `Removal` in its ledger and is not among them.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from relay.archive.layout import OWN
from relay.errors import StorageError
from relay.system.disk import Disk

MAX_VANISHED: Final = 10_000
_NAME: Final = "vanished.json"
_LARGEST: Final = 4 * 1024 * 1024


def read_vanished(disk: Disk, archive: str) -> Mapping[str, int]:
    """The days that vanished, by folder and stem; empty when the file is missing or is not readable."""
    try:
        with disk.open(f"{archive}/{OWN}/{_NAME}", writable=False) as file:
            return msgspec.json.decode(file.read(_LARGEST, 0), type=dict[str, int])
    except (StorageError, msgspec.MsgspecError):
        return {}


class VanishedDays:
    """The writer of that file: `note` and `found_again`, then `save`."""

    def __init__(self, disk: Disk, archive: str) -> None:
        self._disk = disk
        self._folder = f"{archive}/{OWN}"
        self._days = dict(read_vanished(disk, archive))
        self._changed = False

    def __len__(self) -> int:
        return len(self._days)

    def note(self, name: str, now: int) -> bool:
        """Remember a day that vanished; False when it is known, or when there are too many to remember."""
        if name in self._days or len(self._days) >= MAX_VANISHED:
            return False
        self._days[name] = now
        self._changed = True
        return True

    def found_again(self, name: str) -> None:
        """Forget a day whose log is there."""
        if self._days and self._days.pop(name, None) is not None:
            self._changed = True

    def save(self) -> None:
        """Make the changes durable, if there are any."""
        if self._changed:
            path = f"{self._folder}/{_NAME}"
            with self._disk.open(f"{path}.new", create=True) as file:
                file.truncate(0)
                file.write(msgspec.json.encode(self._days), 0)
                file.sync()
            self._disk.replace(f"{path}.new", path)
            self._disk.sync_folder(self._folder)
            self._changed = False
