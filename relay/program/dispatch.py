"""`relay dispatch`: auditd's plugin. Hands what auditd's dispatcher writes on stdin over to the relay that runs.

It comes to the unix socket of a source `audit-dispatcher`. From here go records, each with an LF; from there come
decimal numbers, each with an LF: so many octets of this connection are durable. What is not durable is kept here and,
when the connection was lost, sent on the next. So a relay that is stopped, killed or started anew costs nothing, as
long as what auditd gives meanwhile fits into memory: `CEILING` octets. Then stdin is not read any more: auditd's queue
fills (q_depth), and its overflow_action decides. A record over `LONGEST_RECORD` is handed over in pieces.

It ends when auditd closes stdin or sends SIGTERM, and has then `PATIENCE_S` to hand over what is left. What remains is
an error with its number, on stderr, which auditd shows to nobody: auditd's own log has those records.
"""

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from typing import Final

from relay.errors import ProtocolError, RelayError, TemporaryError
from relay.events.audit.dispatcher import MAX_LINE, DispatcherDecoder

CEILING: Final = 16 << 20
LONGEST_RECORD: Final = MAX_LINE // 2
PATIENCE_S: Final = 5.0
RETRY_S: Final = 0.5
_CHUNK: Final = 256 * 1024
_LONGEST_ANSWER: Final = 4096


class Handover:
    """What was read and is not durable yet, and how much of it this connection has been given."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._sent = 0
        self._accepted = 0
        """In this connection."""
        self._answer = b""

    @property
    def kept(self) -> int:
        """Octets that are not durable."""
        return len(self._kept)

    @property
    def records(self) -> int:
        """Records that are not durable."""
        return self._kept.count(b"\n")

    @property
    def unsent(self) -> memoryview:
        """What this connection has not been given yet; to be released before anything else is called."""
        return memoryview(self._kept)[self._sent :]

    def keep(self, records: list[bytes]) -> None:
        """Take in what was read."""
        for record in records:
            for start in range(0, max(1, len(record)), LONGEST_RECORD):
                self._kept += record[start : start + LONGEST_RECORD] + b"\n"

    def sent(self, count: int) -> None:
        """Count octets as given to this connection."""
        self._sent += count

    def reconnected(self) -> None:
        """Begin a new connection, with the first record that is not durable."""
        self._sent = self._accepted = 0
        self._answer = b""

    def answered(self, data: bytes) -> None:
        """Take what relay says; ProtocolError when it makes no sense."""
        *lines, self._answer = (self._answer + data).split(b"\n")
        for line in lines:
            if not (line.isdigit() and self._accepted <= int(line) <= self._accepted + self._sent):
                raise ProtocolError("relay", "an answer that is no number of octets that it was given")
            count = int(line) - self._accepted
            del self._kept[:count]
            self._sent -= count
            self._accepted += count


class DispatcherPlugin:
    """The plugin at work; `run` returns when stdin has ended and everything was handed over."""

    def __init__(self, path: str, stdin: int = 0) -> None:
        self._path = path
        self._stdin = stdin
        self._decoder = DispatcherDecoder()
        self._handover = Handover()
        self._selector = selectors.DefaultSelector()
        self._connection: socket.socket | None = None
        self._next_attempt = 0.0
        self._until: float | None = None
        """Stdin has ended: when patience ends too."""
        self._terminated = False

    def run(self) -> None:
        """Hand over to the end.

        TemporaryError: so many records could not be handed over. ProtocolError: stdin is no dispatcher's.
        """
        os.set_blocking(self._stdin, False)
        with self._selector, self._signals() as woken:
            self._selector.register(woken, selectors.EVENT_READ, self._wake_up)
            while self._until is None or (self._handover.kept and time.monotonic() < self._until):
                self._turn()
            self._disconnect()
        os.set_blocking(self._stdin, True)
        if self._decoder.error is not None:
            raise self._decoder.error
        if self._handover.kept:
            cause = f"{self._handover.records} records could not be handed over to {self._path}"
            raise TemporaryError("relay dispatch", cause, "auditd's own log has them; is relay running?")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """SIGTERM ends the wait; SIGHUP, which auditd hands on when it reads its configuration, means nothing here."""
        woken, waker = socket.socketpair()
        waker.setblocking(False)
        woken.setblocking(False)
        before = signal.set_wakeup_fd(waker.fileno())
        undo = [(n, signal.signal(n, self._signalled)) for n in (signal.SIGTERM, signal.SIGHUP)]
        try:
            yield woken
        finally:
            for number, handler in undo:
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            woken.close()
            waker.close()

    def _signalled(self, number: int, _: object) -> None:
        self._terminated = self._terminated or number == signal.SIGTERM

    def _wake_up(self, woken: socket.socket) -> None:
        woken.recv(_LONGEST_ANSWER)
        if self._terminated:
            while self._until is None and self._read_stdin():
                pass
            self._end()

    def _turn(self) -> None:
        """Connect if need be, wait until something can be done, and do it."""
        self._connect()
        self._watch(self._stdin, reads=self._until is None and self._handover.kept < CEILING)
        is_waiting = self._connection is None or self._until is not None
        for key, events in self._selector.select(RETRY_S if is_waiting else None):
            if key.fileobj is self._connection:
                self._converse(events)
            elif callable(key.data):
                key.data(key.fileobj)

    # --- auditd's side ---

    def _watch(self, stdin: int, *, reads: bool) -> None:
        is_watched = stdin in self._selector.get_map()
        if reads and not is_watched:
            try:
                self._selector.register(stdin, selectors.EVENT_READ, lambda _: self._read_stdin())
            except PermissionError:  # a file, which is always readable
                while self._until is None and self._handover.kept < CEILING:
                    self._read_stdin()
        elif is_watched and not reads:
            self._selector.unregister(stdin)

    def _read_stdin(self) -> bool:
        """Read what there is; False when there is nothing more just now."""
        try:
            data = os.read(self._stdin, _CHUNK)
        except BlockingIOError:
            return False
        self._handover.keep(self._decoder.receive(data) if data else self._decoder.finish())
        if not data or self._decoder.error is not None:
            self._end()
        return bool(data)

    def _end(self) -> None:
        if self._until is None:
            self._until = time.monotonic() + PATIENCE_S

    # --- relay's side ---

    def _connect(self) -> None:
        if self._connection is None and time.monotonic() >= self._next_attempt:
            self._next_attempt = time.monotonic() + RETRY_S
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                connection.connect(self._path)
            except OSError:
                connection.close()
                return
            self._handover.reconnected()
            self._connection = connection
            self._selector.register(connection, selectors.EVENT_READ)
        if self._connection is not None:
            with self._handover.unsent as unsent:
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0)
            self._selector.modify(self._connection, wanted)

    def _converse(self, events: int) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            if events & selectors.EVENT_WRITE:
                with self._handover.unsent as unsent:
                    count = connection.send(unsent[:_CHUNK])
                self._handover.sent(count)
            if events & selectors.EVENT_READ:
                data = connection.recv(_LONGEST_ANSWER)
                self._handover.answered(data)
                if not data:
                    self._disconnect()
        except BlockingIOError:
            return
        except OSError:
            with contextlib.suppress(OSError, RelayError):  # relay closed; what it answered before that counts
                while data := connection.recv(_LONGEST_ANSWER):
                    self._handover.answered(data)
            self._disconnect()
        except RelayError:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._selector.unregister(self._connection)
            self._connection.close()
            self._connection = None
