"""What systemd is told that started relay, by the datagrams of sd_notify(3): that relay is ready, and that it stops.

Ready means that the configuration is understood, the keys are read, the spool is open and the servers are being
delivered to, whether or not they answer; so `systemctl start` tells what a restart cannot mend. Where no service
manager waits for it (NOTIFY_SOCKET is not set), nothing is done; one that cannot be told is a warning, and no more.
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
    """Tell that relay is ready; on leaving the block, that it stops."""
    _tell(_READY)
    try:
        yield
    finally:
        _tell(_STOPPING)


def _tell(state: bytes) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address  # unix(7): the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(state, name)
    except OSError as error:
        _log.warning("the service manager cannot be told %s (NOTIFY_SOCKET=%s: %s)", state.decode(), address, error)
