"""The control socket: what a running relay knows that its state directory does not, and the request to reload.

`STATE/control` is a unix stream socket, mode 0600. A client sends one line, `status` or `reload`. relay answers with
one JSON object, `Live` or `Reloaded`, and closes the connection; a reload is answered when it is over. A client that
sends nothing within `REQUEST_SECONDS` gets the status. Times are microseconds since the epoch, 0 for never.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

import msgspec

from relay.config.mistake import ConfigLocation, Mistake, MistakesError
from relay.errors import CannotCreateError, ConfigurationError, RelayError, TemporaryError
from relay.system.disk import FILE_MODE, permission_refused

NAME: Final = "control"
ANSWER_SECONDS: Final = 2.0
REQUEST_SECONDS: Final = 0.5
RELOAD_SECONDS: Final = 120.0
"""How long a reload may take: servers, ports and sources end one kind after the other, each within about 20 s."""
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


class LiveMistake(msgspec.Struct, frozen=True, kw_only=True):
    """A mistake in a configuration."""

    file: str
    line: int | None
    path: tuple[str | int, ...]
    sentence: str


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a reload."""

    changes: tuple[str, ...] = ()
    """One sentence for each part that changed."""
    error: tuple[str, str, str] | None = None
    """Why nothing changed: what, cause and remedy."""
    exit_code: int = 0
    """The error's."""
    mistakes: tuple[LiveMistake, ...] = ()
    """Those of the configuration, when that is what is wrong."""

    @classmethod
    def refused(cls, error: RelayError) -> "Reloaded":
        """Say that nothing changed."""
        found = error.found if isinstance(error, MistakesError) else ()
        return cls(
            error=(error.what, error.cause, error.remedy),
            exit_code=error.exit_code,
            mistakes=tuple(
                LiveMistake(file=place.file, line=place.line, path=place.path, sentence=sentence)
                for place, sentence in found
            ),
        )

    def raise_refusal(self) -> None:
        """Raise the error that refused the reload, if one did, as it was raised in the program that runs."""
        if self.mistakes:
            raise MistakesError(
                tuple(Mistake(ConfigLocation(each.file, each.line, each.path), each.sentence) for each in self.mistakes)
            )
        if self.error is not None:
            what, cause, remedy = self.error
            kinds = {kind.exit_code: kind for kind in RelayError.__subclasses__() if kind is not ConfigurationError}
            kind = kinds.get(self.exit_code)
            raise ConfigurationError(what, (cause,), remedy) if kind is None else kind(what, cause, remedy)


async def no_reload() -> Reloaded:
    """Answer a request to reload that comes before the program is ready, or after it began to stop."""
    cause = "it reloads nothing while it starts, drains or stops"
    return Reloaded.refused(TemporaryError("relay", cause, "ask again when it is ready"))


@contextlib.asynccontextmanager
async def answering(
    folder: str, tell: Callable[[], Live], reload: Callable[[], Awaitable[Reloaded]] = no_reload
) -> AsyncIterator[None]:
    """Answer on the folder's control socket while the block runs. The folder's lock must be held."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: a line beyond the reader's limit
            is_reload = await _request(reader) == b"reload"
            writer.write(msgspec.json.encode(await reload() if is_reload else tell()))
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


async def _request(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            return (await reader.readline()).strip()
    except TimeoutError:
        return b""


def ask(folder: str) -> Live | None:
    """The answer of the relay that runs on this state directory; None when it does not come in time.

    PermissionRefusedError when this user is not allowed to ask it.
    """
    try:
        return msgspec.json.decode(_answer(folder, b"status", ANSWER_SECONDS), type=Live)
    except PermissionError as error:
        raise permission_refused(f"{folder}/{NAME}") from error
    except (OSError, msgspec.MsgspecError):
        return None


def ask_to_reload(folder: str) -> Reloaded:
    """Have the relay that runs on this state directory reload, and wait for what comes of it. OSError: none answers."""
    return msgspec.json.decode(_answer(folder, b"reload", RELOAD_SECONDS), type=Reloaded)


def _answer(folder: str, request: bytes, seconds: float) -> bytes:
    with _short_path(folder) as path, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(request + b"\n")
        return _read(connection)


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
