"""Learning that something changed in folders: by inotify where the kernel has it to give, else by looking often.

`wait` only says when to look again; it may return early or for nothing, and no change is missed for longer than the
interval. With inotify the folder is looked at every 5 s all the same, for network file systems that report nothing.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable
from typing import Final, Self

from asyncinotify import Inotify, Mask

_CHANGES: Final = Mask.MODIFY | Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.ATTRIB
_ENDINGS: Final = Mask.IGNORED | Mask.UNMOUNT | Mask.DELETE_SELF | Mask.MOVE_SELF
_SELDOM_S: Final = 5.0
_PAUSE_S: Final = 0.05

logger = logging.getLogger(__name__)


class FolderWatch:
    """Watches folders while it is entered; `inotify=False` looks often from the start."""

    def __init__(self, *folders: str, interval_s: float = 0.25, inotify: bool = True) -> None:
        self._folders = folders
        self._interval_s = interval_s
        self._wanted = inotify
        self._changed = asyncio.Event()
        self._inotify: Inotify | None = None
        self._listening: asyncio.Task[None] | None = None
        self._told: set[int | None] = set()

    @property
    def polling(self) -> bool:
        """Whether it looks often, for want of inotify."""
        return self._inotify is None

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        self._end()

    async def wait(self, seconds: float | None = None) -> None:
        """Return when something changed, when it is time to look, or after `seconds`."""
        if self.polling:
            self._begin()
        interval = self._interval_s if self.polling else _SELDOM_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval if seconds is None else min(seconds, interval)):
                await self._changed.wait()
        self._changed.clear()

    def _begin(self) -> None:
        if not self._wanted:
            return
        try:
            self._inotify = _watching(self._folders)
        except OSError as error:
            if error.errno not in self._told:
                self._told.add(error.errno)
                logger.warning(
                    "%s: no inotify (%s); looking every %g s",
                    " and ".join(self._folders),
                    error.strerror,
                    self._interval_s,
                )
            return
        self._told.clear()
        self._listening = asyncio.create_task(self._listen(self._inotify))
        self._changed.set()  # there is no telling what happened before

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
                # The kernel merges equal events that wait: a busy writer then costs twenty looks a second, no more.
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._end()


def folders_of(path: str) -> tuple[str, ...]:
    """Where a file's changes show: in its folder, and where that leads elsewhere, in the folder of a link's target."""
    folder = os.path.dirname(path)
    try:
        target = os.path.dirname(os.path.realpath(path))
        return (folder,) if os.path.realpath(folder) == target else (folder, target)
    except OSError:  # a link on the way may not be read
        return (folder,)


def _watching(folders: Iterable[str]) -> Inotify:
    inotify = Inotify()
    try:
        for folder in folders:
            inotify.add_watch(folder, _CHANGES | Mask.DELETE_SELF | Mask.MOVE_SELF)
    except BaseException:
        inotify.close()
        raise
    return inotify
