"""The control socket: the state of a running relay, as far as its state directory does not show it, and reloading.

`STATE/control` is a unix stream socket, mode 0600. A client sends one line, `status` or `reload`. relay answers with
one JSON object, `Live` or `Reloaded`, and closes the connection; a reload is answered when it is over. A client that
sends nothing within `REQUEST_SECONDS` gets the status.
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
from relay.program.status.live import Live
from relay.system.disk import FILE_MODE, permission_refused

NAME: Final = "control"
ANSWER_SECONDS: Final = 2.0
REQUEST_SECONDS: Final = 0.5
RELOAD_SECONDS: Final = 120.0
"""How long a reload may take: servers, ports and sources end one kind after the other, each kind within about 20 s."""
_LONGEST_ANSWER: Final = 1024 * 1024


class LiveMistake(msgspec.Struct, frozen=True, kw_only=True):
    """A mistake in a configuration."""

    file: str
    line: int | None
    path: tuple[str | int, ...]
    sentence: str


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `reload`."""

    changes: tuple[str, ...] = ()
    """One sentence for each part that changed."""
    error: tuple[str, str, str] | None = None
    """Why nothing changed: what, cause and remedy."""
    exit_code: int = 0
    """The error's."""
    mistakes: tuple[LiveMistake, ...] = ()
    """The mistakes in the configuration, if it has any."""

    @classmethod
    def refused(cls, error: RelayError) -> "Reloaded":
        """The answer when nothing changed because of `error`."""
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
        """Raise the error that refused the reload, if one did, as the running program raised it."""
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
    """Answer a request to reload before the program is ready, or after it began to stop."""
    cause = "it reloads nothing while it starts, drains or stops"
    return Reloaded.refused(TemporaryError("relay", cause, "reload again when it is ready"))


@contextlib.asynccontextmanager
async def answering(
    folder: str, live: Callable[[], Live], reload: Callable[[], Awaitable[Reloaded]] = no_reload
) -> AsyncIterator[None]:
    """Answer on the folder's control socket while the block runs. The folder's lock must be held."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # ValueError: a line beyond the reader's limit
        with contextlib.closing(writer), contextlib.suppress(OSError, ValueError):
            request = b""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REQUEST_SECONDS):
                    request = (await reader.readline()).strip()
            writer.write(msgspec.json.encode(await reload() if request == b"reload" else live()))
            await writer.drain()

    with _short_path(folder) as path, contextlib.ExitStack() as undo:
        undo.callback(os.umask, os.umask(0o777 & ~FILE_MODE))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # a killed relay left it: the lock shows that no other one runs
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


def ask(folder: str, *, timeout: float = ANSWER_SECONDS) -> Live | None:
    """The status of the relay that runs on this state directory; None without an answer within `timeout` seconds.

    PermissionRefusedError when this user is not allowed to ask it.
    """
    try:
        return msgspec.json.decode(_answer(folder, b"status", timeout), type=Live)
    except PermissionError as error:
        raise permission_refused(f"{folder}/{NAME}") from error
    except (OSError, msgspec.MsgspecError):
        return None


def ask_to_reload(folder: str) -> Reloaded:
    """Ask the relay that runs on this state directory to reload, and wait for the result. OSError: none answers."""
    return msgspec.json.decode(_answer(folder, b"reload", RELOAD_SECONDS), type=Reloaded)


def _answer(folder: str, request: bytes, timeout: float) -> bytes:
    with _short_path(folder) as path, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(request + b"\n")
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
