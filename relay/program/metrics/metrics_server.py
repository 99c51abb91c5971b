"""The HTTP listener for `/metrics` and `/healthz`: a thread with an event loop of its own.

It answers one request a connection, and closes it. Ceilings: `MOST_CONNECTIONS` at once, a further one is closed at
once; `LONGEST_REQUEST` octets; `REQUEST_SECONDS` for a request and its answer together. Whatever a client sends, it
harms that connection alone.
"""

import asyncio
import contextlib
import functools
import logging
import threading
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from relay.listener.listening_socket import binding, cannot_listen
from relay.program.metrics.exposition import exposition
from relay.program.metrics.monitor import Monitor
from relay.program.road import Road
from relay.system.background.supervision import keep_running
from relay.system.disk import Disk
from relay.values.address import Address
from relay.values.text import bug_text, error_text

if TYPE_CHECKING:
    import socket

MOST_CONNECTIONS: Final = 32
LONGEST_REQUEST: Final = 8192
REQUEST_SECONDS: Final = 5.0
MEASURE_SECONDS: Final = 2.0
"""How long the program's event loop may take to answer."""
LOOK_SECONDS: Final = 1.0
_BACKLOG: Final = 64
_TEXT: Final = "text/plain; charset=utf-8"

_log = logging.getLogger("relay.metrics")


class _Answer(NamedTuple):
    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT
    allow: str = ""


class MetricsServer:
    """Serves one road's metrics on one address."""

    def __init__(self, address: Address, road: Road, *, disk: Disk | None = None) -> None:
        self.address = address
        self._monitor = Monitor(road, disk or Disk())
        self._program = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._stopped = threading.Event()
        work = functools.partial(keep_running, "the metrics end", self._run, self._stopped)
        self._thread = threading.Thread(target=work, name="metrics", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._started = threading.Event()
        self._open = 0

    async def start(self) -> None:
        """Listen; a RelayError explains why that fails."""
        try:
            self._sockets = await asyncio.to_thread(binding(self.address))
        except OSError as error:
            raise cannot_listen(f"metrics.listen {self.address}", error) from error
        self._thread.start()
        await asyncio.to_thread(self._started.wait)

    async def stop(self) -> None:
        """Close the address and end the thread."""
        self._stopped.set()
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._stopping.set)
            await asyncio.to_thread(self._thread.join, REQUEST_SECONDS)

    # --- The thread ---

    def _run(self) -> None:
        sockets, self._sockets = self._sockets or binding(self.address)(), []
        try:
            asyncio.run(self._serve(sockets))
        finally:
            for sock in sockets:
                sock.close()
            self._started.set()

    async def _serve(self, sockets: "list[socket.socket]") -> None:
        def note_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")  # for example: no descriptor is left for a connection
            _log.debug("%s%s", context.get("message"), f": {error_text(error)}" if error is not None else "")

        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(note_exception)
        async with contextlib.AsyncExitStack() as stack:
            for sock in sockets:
                server = await asyncio.start_server(self._answer_one, sock=sock, limit=LONGEST_REQUEST)
                stack.push_async_callback(server.wait_closed)
                stack.callback(server.close)
            # Not awaited: with a large backlog the answers begin before the spool is read.
            reading = asyncio.create_task(asyncio.to_thread(self._monitor.read_spools))
            self._monitor.look()
            self._started.set()
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._stopping.wait()
                try:
                    self._monitor.look()
                except Exception as bug:  # noqa: BLE001  the next look may work, and the metrics do
                    _log.debug("a look at the progress failed: %s", bug_text(bug))
            reading.cancel()

    async def _answer_one(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MOST_CONNECTIONS:
                async with asyncio.timeout(REQUEST_SECONDS):
                    await self._read_and_answer(reader, writer)
        except (OSError, TimeoutError):
            pass  # the client is gone, or slow
        finally:
            self._open -= 1
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _read_and_answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except IncompleteReadError as error:
            request = error.partial
            if not request:
                return
        except LimitOverrunError:
            request = b""
        lines = request.decode("latin-1").split("\r\n")
        answer = await self._answer(lines)
        head = [
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            *([f"Allow: {answer.allow}"] if answer.allow else []),
            "Cache-Control: no-store",
            "Connection: close",
        ]
        body = b"" if lines[0].startswith("HEAD ") else answer.body
        writer.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)
        await writer.drain()
        writer.write_eof()
        while await reader.read(LONGEST_REQUEST):  # a close with unread octets would be a reset, and lose the answer
            pass

    async def _answer(self, lines: list[str]) -> _Answer:
        method, _, rest = lines[0].partition(" ")
        target, _, protocol = rest.partition(" ")
        if not protocol.startswith("HTTP/1."):
            return _Answer(HTTPStatus.BAD_REQUEST, b"this is not an HTTP request\n")
        if method not in {"GET", "HEAD"}:
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n", allow="GET, HEAD")
        match target.partition("?")[0]:
            case "/metrics":
                return await self._metrics(lines[1:])
            case "/healthz":
                health = self._monitor.health()
                status = HTTPStatus.OK if health.is_healthy else HTTPStatus.SERVICE_UNAVAILABLE
                return _Answer(status, f"{health.text}\n".encode())
        return _Answer(HTTPStatus.NOT_FOUND, b"there are /metrics and /healthz\n")

    async def _metrics(self, headers: list[str]) -> _Answer:
        accept = next((line[7:] for line in headers if line[:7].lower() == "accept:"), "")
        try:
            async with asyncio.timeout(MEASURE_SECONDS):
                measuring = self._monitor.measure(self._monitor.backlogs())
                seen = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(measuring, self._program))
            content_type, body = exposition(seen, accept)
        except (TimeoutError, RuntimeError):  # RuntimeError: the program's loop is closed
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"relay does not answer\n")
        except Exception as bug:  # noqa: BLE001  it is this answer's alone
            _log.error("the metrics cannot be written: %s; please report it with the log", bug_text(bug))
            return _Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"a bug of relay's; its log has more\n")
        return _Answer(HTTPStatus.OK, body, content_type)
