"""`refused/`: messages that a server has refused for good, kept for people to look at.

Each server has a file, `refused/SERVER.syslog`, with the messages as stored, in octet counting (RFC 6587 section
3.4.1). Over `MAX_SIZE` octets it becomes `SERVER.old.syslog`, and replaces the former one. A message here is not proven
and frees no space: the server's gap counts it.
"""

from collections.abc import Iterable
from typing import Final

from relay.spool.block import frame
from relay.system.disk import Disk

FOLDER: Final = "refused"
MAX_SIZE: Final = 16 * 1024 * 1024


class RefusedMessages:
    """The folder in a state directory; created with the first message."""

    def __init__(self, disk: Disk, state_directory: str) -> None:
        self._disk = disk
        self.folder = f"{state_directory}/{FOLDER}"

    def keep(self, server: str, messages: Iterable[bytes]) -> str:
        """Append the messages to the server's file, durably; returns its path."""
        self._disk.make_folder(self.folder)
        path = f"{self.folder}/{server}.syslog"
        with self._disk.open(path, create=True) as file:
            file.write(b"".join(frame(message) for message in messages), file.size)
            file.sync()
            full = file.size > MAX_SIZE
        if full:
            self._disk.replace(path, f"{self.folder}/{server}.old.syslog")
        self._disk.sync_folder(self.folder)
        return path
