"""Noticing that files in folders changed: by inotify where the kernel provides it, else by frequent scans.

`wait` only says when to scan again. It may return early or without a change, and no change stays unnoticed for longer
than the interval. With inotify the folder is still scanned every `rescan_s`, because network file systems report
nothing.
"""

import asyncio
import contextlib
import logging
import os
from typing import Final, Self

from asyncinotify import Inotify, Mask

RESCAN_S: Final = 5.0
_CHANGES: Final = Mask.MODIFY | Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.ATTRIB
_ENDINGS: Final = Mask.IGNORED | Mask.UNMOUNT | Mask.DELETE_SELF | Mask.MOVE_SELF
_PAUSE_S: Final = 0.05

logger = logging.getLogger(__name__)


class FolderWatch:
    """Watches folders while it is entered; with `inotify=False` it scans every `interval_s` from the start."""

    def __init__(
        self, *folders: str, interval_s: float = 0.25, rescan_s: float = RESCAN_S, inotify: bool = True
    ) -> None:
        self._folders = folders
        self._interval_s = interval_s
        self._rescan_s = rescan_s
        self._use_inotify = inotify
        self._changed = asyncio.Event()
        self._inotify: Inotify | None = None
        self._listening: asyncio.Task[None] | None = None
        self._logged: set[int | None] = set()

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        self._end()

    @property
    def polling(self) -> bool:
        """Whether it scans frequently, for want of inotify."""
        return self._inotify is None

    async def wait(self, seconds: float | None = None) -> None:
        """Return after a change, when it is time to scan, or after `seconds`."""
        if self.polling:
            self._begin()
        interval = self._interval_s if self.polling else self._rescan_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval if seconds is None else min(seconds, interval)):
                await self._changed.wait()
        self._changed.clear()

    def _begin(self) -> None:
        if not self._use_inotify:
            return
        inotify: Inotify | None = None
        try:
            inotify = Inotify()
            for folder in self._folders:
                inotify.add_watch(folder, _CHANGES | Mask.DELETE_SELF | Mask.MOVE_SELF)
        except OSError as error:
            if inotify is not None:
                inotify.close()
            if error.errno not in self._logged:
                self._logged.add(error.errno)
                folders = " and ".join(self._folders)
                logger.warning("%s: no inotify (%s); scanning every %g s", folders, error.strerror, self._interval_s)
            return
        self._inotify = inotify
        self._logged.clear()
        self._listening = asyncio.create_task(self._listen(inotify))
        self._changed.set()  # earlier changes were not reported

    def _end(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    async def _listen(self, inotify: Inotify) -> None:
        try:
            async for event in inotify:
                self._changed.set()
                if event.mask & _ENDINGS:
                    break
                # The kernel merges equal waiting events, so a busy writer causes at most twenty scans a second.
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._end()


def folders_of(path: str) -> tuple[str, ...]:
    """Return the folders in which a file changes: its own, and that of a link's target if it is another."""
    folder = os.path.dirname(path)
    try:
        target = os.path.dirname(os.path.realpath(path))
        return (folder,) if os.path.realpath(folder) == target else (folder, target)
    except OSError:  # relay is not allowed to read a link on the way
        return (folder,)
