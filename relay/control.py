"""The control socket: what a running relay knows that its state directory does not.

`STATE/control` is a unix stream socket, mode 0600. Whoever connects is told the live status as one JSON object, and
the connection is closed; nothing is read from it. Times are microseconds since the epoch, 0 for never.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import msgspec

from relay.disk import FILE_MODE, permission_refused
from relay.errors import CannotCreateError

NAME: Final = "control"
ANSWER_SECONDS: Final = 2.0
_LONGEST_ANSWER: Final = 1024 * 1024


class LiveDestination(msgspec.Struct, frozen=True, kw_only=True):
    """One destination's delivery at this moment."""

    name: str
    state: str
    error: str = ""
    """Why it does not deliver; empty while it does."""
    error_since: int = 0
    proofs: int = 0
    """Since the start."""
    damage: int = 0
    """Places in the spool that were stepped over, since the start."""
    refused: int = 0
    """Messages that the server does not accept, kept in `refused/` and counted; since the start."""
    largest_refused: int = 0
    """Octets of the largest message on which it ended every session; 0 without any."""


class LiveSource(msgspec.Struct, frozen=True, kw_only=True):
    """One source at this moment."""

    name: str
    lag: int
    """Octets that are not read; -1 when that cannot be told."""
    open_events: int = 0
    """Begun and not complete."""
    accepted: int = 0
    """Events made durable since the start."""
    refused: int = 0
    """Events that were refused for want of space, and counted, since the start."""
    waits_for_space: bool = False
    """Whether it waits until the spool can be written again, and is read on then."""
    malformed: int = 0
    lost_places: int = 0
    error: str = ""


class LivePart(msgspec.Struct, frozen=True, kw_only=True):
    """A listener, the SSH end or a port forwarding: its state and what it has counted since the start."""

    name: str
    state: str = ""
    error: str = ""
    counters: dict[str, int] = {}


class LiveAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm that is raised."""

    name: str
    severity: str
    text: str
    about: str = ""
    """The server that it is about; empty for the machine."""
    since: int = 0


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """What a running relay tells."""

    pid: int
    started: int
    intake_error: str = ""
    """Why sources wait, or why the spool cannot be written; empty while it can."""
    accepted: dict[str, int] = {}
    """Events made durable since the start, by type."""
    refused: dict[str, int] = {}
    """Events that were refused and counted since the start, by type: what no source can deliver again."""
    destinations: tuple[LiveDestination, ...] = ()
    sources: tuple[LiveSource, ...] = ()
    parts: tuple[LivePart, ...] = ()
    alarms: tuple[LiveAlarm, ...] = ()


@contextlib.asynccontextmanager
async def answering(folder: str, tell: Callable[[], Live]) -> AsyncIterator[None]:
    """Answer on the folder's control socket while the block runs. The folder's lock must be held."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(msgspec.json.encode(tell()))
            await writer.drain()
        writer.close()

    with _short_path(folder) as path, contextlib.ExitStack() as undo:
        undo.callback(os.umask, os.umask(0o777 & ~FILE_MODE))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of a relay that was killed: the lock says that nobody answers there
        try:
            server = await asyncio.start_unix_server(answer, path)
        except OSError as error:
            raise CannotCreateError(
                f"{folder}/{NAME}", error.strerror or str(error), "see the folder's mode"
            ) from error
        undo.close()
        async with server:
            yield
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def ask(folder: str) -> Live | None:
    """What the relay that runs on this state directory tells; None when none answers in time.

    PermissionRefusedError when this user is not allowed to ask it.
    """
    try:
        with _short_path(folder) as path, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(path)
            return msgspec.json.decode(_read(connection), type=Live)
    except PermissionError as error:
        raise permission_refused(f"{folder}/{NAME}") from error
    except (OSError, msgspec.MsgspecError):
        return None


def _read(connection: socket.socket) -> bytes:
    data = b""
    while len(data) < _LONGEST_ANSWER and (more := connection.recv(65536)):
        data += more
    return data


@contextlib.contextmanager
def _short_path(folder: str) -> Iterator[str]:
    """The socket's path through a descriptor of its folder: unix(7) allows 108 octets, folders may be deeper."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)
