"""First octets of streams that are not syslog, kept so that an administrator can see what connects: `.relay/aside`.

At most `MOST` files of at most `LARGEST` octets; the oldest is removed. They are diagnostics: nothing waits until they
are durable, and a fault here never affects a stream.
"""

import logging
import os
from datetime import UTC, datetime
from typing import Final

from relay.errors import RelayError
from relay.system.clock import Clock, wall_clock
from relay.system.disk import Disk

MOST: Final = 32
LARGEST: Final = 1024

_log = logging.getLogger(__name__)


class Aside:
    """The folder; it is made with the first file."""

    def __init__(self, folder: str, clock: Clock = wall_clock) -> None:
        self._folder = folder
        self._clock = clock
        self._disk = Disk()

    def keep(self, address: str, octets: bytes) -> None:
        """Keep the first octets of a stream from that address. Blocks on the disk."""
        time = datetime.fromtimestamp(self._clock() / 1e6, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        try:
            self._disk.make_folder(self._folder)
            former = self._disk.names(self._folder)
            for oldest in former[: max(0, len(former) - MOST + 1)]:
                self._disk.remove(os.path.join(self._folder, oldest))
            name = f"{time}-{address.replace(os.sep, '_') or 'unknown'}"
            with self._disk.open(os.path.join(self._folder, name), create=True) as file:
                file.write(octets[:LARGEST], 0)
        except RelayError as error:
            _log.info("the first octets of a stream from %s could not be kept: %s", address, error)
