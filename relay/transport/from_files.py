"""Keys, certificates and lists of keys: read from files, and read again when one of the files changes.

So a repair or a renewal needs no restart. A file's state is its inode, size and time of change (ctime), which covers
its contents, mode and owner, and whether other users can change it, which also depends on the folders on its path.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from relay.errors import RelayError
from relay.system.files.strict_modes import mode_objection

_log = logging.getLogger("relay.files")

Value = TypeVar("Value")
FileState = tuple[int, int, int, bool] | None
"""None: missing, or not accessible to this user."""


def states(files: Sequence[str]) -> list[FileState]:
    """The state of each file, to compare with later ones."""
    found: list[FileState] = []
    for file in files:
        try:
            status = os.stat(file)
        except (OSError, ValueError):  # ValueError: a path with a NUL
            found.append(None)
        else:
            is_strict = mode_objection(file) is None
            found.append((status.st_ino, status.st_size, status.st_ctime_ns, is_strict))
    return found


class FromFiles(Generic[Value]):
    """A value that `read` makes from files; the last readable one stays in use. For any thread."""

    def __init__(self, what: str, files: Sequence[str], read: Callable[[], Value]) -> None:
        self.value: Value | None = None
        """None: none could be read yet."""
        self._error: RelayError | None = None
        self._what = what
        self._files = files
        self._read = read
        self._states: list[FileState] | None = None
        self._lock = threading.Lock()

    def refresh(self) -> RelayError | None:
        """Read the files if they have changed since the last call; the error if they cannot be used as they are now.

        A change for the worse or the better is logged.
        """
        with self._lock:
            former_states, self._states = self._states, states(self._files)
            if self._states == former_states:
                return self._error
            former_error = self._error
            try:
                self.value, self._error = self._read(), None
            except RelayError as error:
                self._error = error
                former = "" if self.value is None else ", and the former one stays in use"
                _log.warning("%s cannot be used%s: %s", self._what, former, error)
            else:
                if former_error is not None:
                    _log.warning("%s can be used again", self._what)
                elif former_states is not None:
                    _log.info("%s was renewed", self._what)
            return self._error
