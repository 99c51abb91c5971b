"""The notifications to systemd, if it started relay: relay is ready, and it stops (sd_notify(3)).

Ready means that the configuration is valid, the keys are read, the spool is open and delivery to the servers has begun,
whether or not they answer. So `systemctl start` fails for faults that a restart cannot repair. Without a service
manager that waits (NOTIFY_SOCKET is not set) nothing is done. A notification that fails is only a warning.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Final

_log = logging.getLogger("relay")

_READY: Final = b"READY=1"
_STOPPING: Final = b"STOPPING=1"


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Notify that relay is ready; on leaving the block, that it stops."""
    _notify(_READY)
    try:
        yield
    finally:
        _notify(_STOPPING)


def _notify(state: bytes) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address  # unix(7): the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(state, name)
    except OSError as error:
        _log.warning("the service manager did not get %s (NOTIFY_SOCKET=%s: %s)", state.decode(), address, error)
