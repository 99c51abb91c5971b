"""A request to root: an empty file in /run/relay that one of root's systemd units waits for and deletes."""

import os

from relay.errors import StorageError, UnavailableError
from relay.system.disk import Disk


def leave_root_request(disk: Disk, path: str) -> None:
    """Create the file; UnavailableError when that fails."""
    try:
        disk.open(path, create=True).close()
    except StorageError as error:
        remedy = f"give relay's user the folder {os.path.dirname(path)}, as deploy/relay.service does"
        raise UnavailableError(path, error.cause, remedy) from error
