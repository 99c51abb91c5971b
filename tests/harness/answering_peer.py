"""A far end that answers, and whose answers a test decides: the common part of RELP and the auditd protocol."""

import socket
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from harness.collector import Collector

_READ = 1 << 16

Question = TypeVar("Question")


class AnsweringPeer(Generic[Question]):
    """Listens on a free loopback port in the `with` block.

    `answer` answers each question: b"" means no answer, and ConnectionError closes the connection. `first` has other
    functions for the first sessions, one for each session, in order.
    """

    def __init__(
        self,
        answer: Callable[[Question], bytes],
        first: Sequence[Callable[[Question], bytes]],
        reader: Callable[[], Callable[[bytes], Iterable[Question]]],
    ) -> None:
        """`reader` makes, for each session, what finds the questions in its octets."""
        self.refusals = 0
        self._answer = answer
        self._first = first
        self._reader = reader
        self._collector = Collector(self._serve)
        self.port = self._collector.port
        self.open_connection: socket.socket | None = None
        """The newest session's."""

    def __enter__(self) -> Self:
        self._collector.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._collector.__exit__(kind, error, trace)

    @property
    def sessions(self) -> int:
        return self._collector.connections

    @property
    def ended(self) -> int:
        """The number of ended sessions; everything in them was received."""
        return self._collector.ended

    def send(self, data: bytes) -> None:
        """Send unrequested octets in the newest session."""
        assert self.open_connection is not None
        self.open_connection.sendall(data)

    def _serve(self, collector: Collector, connection: socket.socket) -> None:
        session = collector.served
        answer = self._first[session - 1] if session <= len(self._first) else self._answer
        self.open_connection = connection
        questions_in = self._reader()
        while data := connection.recv(_READ):
            answers: list[bytes] = []
            try:
                for question in questions_in(data):
                    reply = self._reply(question)
                    answers.append(answer(question) if reply is None else reply)
            finally:
                connection.sendall(b"".join(answers))

    def _reply(self, question: Question) -> bytes | None:
        """Return the protocol's own answer; None for a question that the test answers."""
        raise NotImplementedError
