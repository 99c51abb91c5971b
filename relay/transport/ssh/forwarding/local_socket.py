"""Which users may connect to the Unix socket of a port forwarding, and who a connection's is (SO_PEERCRED, unix(7))."""

import pwd
import socket
import struct
from collections.abc import Iterable
from typing import Final

from relay.errors import CannotCreateError
from relay.values.text import quoted

_CREDENTIALS: Final = struct.Struct("iII")  # process, user, group


def ids_of(users: Iterable[str]) -> frozenset[int]:
    """The ids of users, which are names or numbers; CannotCreateError for a name that this machine does not have."""
    found = set()
    for user in users:
        try:
            found.add(int(user) if user.isascii() and user.isdigit() else pwd.getpwnam(user).pw_uid)
        except KeyError:
            cause = f"this machine has no user {quoted(user)}"
            raise CannotCreateError("local-users", cause, "correct the name, or create the user") from None
    return frozenset(found)


def user_of(connection: socket.socket) -> int:
    """The id of the user whose program connected."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    return int(user)


def name_of(user: int) -> str:
    """The user's name, or the id of a user without one."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
