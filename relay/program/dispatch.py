"""`relay dispatch`, auditd's plugin: hands the records on its stdin, from auditd's dispatcher, over to a running relay.

It connects to the unix socket of a source `audit-dispatcher`. It sends records, each with an LF. relay answers with
decimal numbers, each with an LF: so many octets of this connection are durable. Records that are not durable are kept
here, and sent again on the next connection when this one was lost. So nothing is lost while relay is stopped, killed or
restarted, as long as the records meanwhile fit into memory: `CEILING` octets. Beyond that stdin is not read: auditd's
queue fills (q_depth), and its overflow_action decides. A record over `LONGEST_RECORD` is handed over in pieces.

It ends when auditd closes stdin or sends SIGTERM, after `FINISHING_S` at most to hand over the rest. The number of
records that remain then is an error on stderr, which auditd shows to nobody: auditd's own log has those records.
"""

import contextlib
import os
import select
import signal
import socket
import time
from typing import Final

from relay.errors import ProtocolError, RelayError, TemporaryError
from relay.events.audit.dispatcher import MAX_LINE, DispatcherDecoder
from relay.system.signals import wakeup_socket
from relay.values.text import counted

CEILING: Final = 16 << 20
LONGEST_RECORD: Final = MAX_LINE // 2
FINISHING_S: Final = 5.0
RETRY_S: Final = 0.5
_CHUNK: Final = 256 * 1024
_LONGEST_ANSWER: Final = 4096


class Handover:
    """The records that were read and are not durable yet, and how many of them this connection was sent."""

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

    def unsent(self, limit: int) -> bytes:
        """At most `limit` octets that this connection was not sent yet."""
        return bytes(memoryview(self._kept)[self._sent : self._sent + limit])

    def keep(self, records: list[bytes]) -> None:
        """Add records that were read."""
        for record in records:
            for start in range(0, max(1, len(record)), LONGEST_RECORD):
                self._kept += record[start : start + LONGEST_RECORD] + b"\n"

    def sent(self, count: int) -> None:
        """Count octets as sent on this connection."""
        self._sent += count

    def reconnected(self) -> None:
        """Begin a new connection, with the first record that is not durable."""
        self._sent = self._accepted = 0
        self._answer = b""

    def answered(self, data: bytes) -> None:
        """Drop the octets that are durable by relay's answer; ProtocolError for an answer that makes no sense."""
        *lines, self._answer = (self._answer + data).split(b"\n")
        for line in lines:
            if not (line.isdigit() and self._accepted <= int(line) <= self._accepted + self._sent):
                raise ProtocolError("relay", "its answer is not a number of octets that it was sent")
            count = int(line) - self._accepted
            del self._kept[:count]
            self._sent -= count
            self._accepted += count


class DispatcherPlugin:
    """The plugin; `run` returns when stdin has ended and everything was handed over."""

    def __init__(self, path: str, stdin: int = 0, *, ceiling: int = CEILING) -> None:
        self._path = path
        self._stdin = stdin
        self._ceiling = ceiling
        self._decoder = DispatcherDecoder()
        self._handover = Handover()
        self._connection: socket.socket | None = None
        self._next_attempt = 0.0
        self._until: float | None = None
        """When to give up handing over; None as long as stdin is open."""
        self._terminated = False

    def run(self) -> None:
        """Hand over to the end.

        TemporaryError: some records could not be handed over. ProtocolError: stdin is not a dispatcher's.
        """

        def note_signal(number: int, _: object) -> None:
            self._terminated = self._terminated or number == signal.SIGTERM

        os.set_blocking(self._stdin, False)
        with wakeup_socket() as woken:
            # auditd sends SIGHUP when it reads its configuration again; that means nothing here.
            former = [(number, signal.signal(number, note_signal)) for number in (signal.SIGTERM, signal.SIGHUP)]
            try:
                while self._until is None or (self._handover.kept and time.monotonic() < self._until):
                    self._do_what_is_ready(woken)
            finally:
                for number, handler in former:
                    signal.signal(number, handler)
                self._disconnect()
        os.set_blocking(self._stdin, True)
        if self._decoder.error is not None:
            raise self._decoder.error
        if self._handover.kept:
            cause = f"{counted(self._handover.records, 'record')} could not be handed over to {self._path}"
            raise TemporaryError("relay dispatch", cause, "auditd's own log has them; is relay running?")

    def _do_what_is_ready(self, woken: socket.socket) -> None:
        """Connect if that is due, wait until something can be done, and do it."""
        connection = self._connection or self._connect()
        inputs: list[int | socket.socket] = [woken]
        if self._until is None and self._handover.kept < self._ceiling:
            inputs.append(self._stdin)
        outputs = [connection] if connection is not None and self._handover.unsent(1) else []
        if connection is not None:
            inputs.append(connection)
        timeout = RETRY_S if connection is None or self._until is not None else None
        readable, writable, _ = select.select(inputs, outputs, [], timeout)
        if woken in readable:
            woken.recv(_LONGEST_ANSWER)
            if self._terminated:
                while self._until is None and self._read_stdin():
                    pass
                self._end()
        if self._stdin in readable and self._until is None:
            self._read_stdin()
        if connection is not None and (connection in readable or connection in writable):
            self._converse(connection, reads=connection in readable, writes=connection in writable)

    def _read_stdin(self) -> bool:
        """Read a chunk; False when there is nothing more at present."""
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
            self._until = time.monotonic() + FINISHING_S

    # --- relay's side ---

    def _connect(self) -> socket.socket | None:
        if time.monotonic() < self._next_attempt:
            return None
        self._next_attempt = time.monotonic() + RETRY_S
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            return None
        self._handover.reconnected()
        self._connection = connection
        return connection

    def _converse(self, connection: socket.socket, *, reads: bool, writes: bool) -> None:
        try:
            if writes:
                self._handover.sent(connection.send(self._handover.unsent(_CHUNK)))
            if reads:
                data = connection.recv(_LONGEST_ANSWER)
                self._handover.answered(data)
                if not data:
                    self._disconnect()
        except BlockingIOError:
            return
        except OSError:
            with contextlib.suppress(OSError, RelayError):  # relay closed it; what it answered before counts
                while data := connection.recv(_LONGEST_ANSWER):
                    self._handover.answered(data)
            self._disconnect()
        except RelayError:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
