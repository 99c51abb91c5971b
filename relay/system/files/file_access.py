"""Mode and group of files that others may read."""

import grp
import os
import pwd
from typing import NamedTuple

from relay.errors import ConfigurationError
from relay.system.disk import storage_error
from relay.values.text import quoted

UNCHANGED = -1


class FileAccess(NamedTuple):
    """Who may read and write new files and folders."""

    mode: int = 0o600
    group: int = UNCHANGED
    """The group's number; `UNCHANGED`: that of this process, or of the folder above."""

    @property
    def folder_mode(self) -> int:
        """A folder gets x where a file gets r."""
        return self.mode | (self.mode & 0o444) >> 2

    def give_to(self, path: str, descriptor: int | None = None, *, is_folder: bool = False) -> None:
        """Set mode and group of a new file, by its descriptor, or folder; StorageError when that is not allowed."""
        target = path if descriptor is None else descriptor
        try:
            if self.group != UNCHANGED:
                os.chown(target, -1, self.group)
            os.chmod(target, self.folder_mode if is_folder else self.mode)
        except OSError as error:
            raise storage_error(path, "chmod or chgrp", error) from error


PRIVATE = FileAccess()


def group_number(name: str, key: str) -> int:
    """The group of that name, `UNCHANGED` for no name; ConfigurationError, which names `key`, when it is not usable."""
    if not name:
        return UNCHANGED
    try:
        number = grp.getgrnam(name).gr_gid
    except KeyError:
        remedy = f"create it (`groupadd --system {name}`), or name another one"
        raise ConfigurationError(key, (f"this machine has no group {quoted(name)}",), remedy) from None
    if os.geteuid() and number not in {os.getegid(), *os.getgroups()}:
        user = pwd.getpwuid(os.geteuid()).pw_name
        cause = f"{quoted(user)} does not belong to the group {quoted(name)}, so it cannot give files to it"
        raise ConfigurationError(key, (cause,), f"`usermod --append --groups {name} {user}`, and restart relay")
    return number
