"""A RELP collector of a test's own: it keeps to the protocol except where the test tells it otherwise."""

import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from harness.collector import Collector
from relay.syslog.relp_frame import Frame, FrameReader, encode

OPENED = b"200 OK\nrelp_version=0\nrelp_software=test,1,http://example.org\ncommands=syslog"
_READ = 1 << 16
_LARGEST = 1 << 26

Answer = Callable[["RelpPeer", Frame], bytes]
"""What is said to a message; b"" for nothing. Raising ConnectionError closes the connection."""


def accept(peer: "RelpPeer", frame: Frame) -> bytes:
    """Keep the message and answer 200, as a collector should."""
    peer.messages.append(frame.data or b"")
    return encode(frame.txnr, b"rsp", b"200 OK")


def refuse(peer: "RelpPeer", frame: Frame) -> bytes:
    """Answer 500."""
    peer.refusals += 1
    return encode(frame.txnr, b"rsp", b"500 the disk is full")


class RelpPeer:
    """Listens on a free loopback port from the `with` statement on; each session's messages are answered by `answer`.

    What the first sessions do instead may be given as `first`: one for each session, in order.
    """

    def __init__(self, answer: Answer = accept, *, first: tuple[Answer, ...] = (), opened: bytes = OPENED) -> None:
        self.messages: list[bytes] = []
        """Accepted, in order."""
        self.refusals = 0
        self.closes = 0
        """How often a client has said `close`."""
        self._answer = answer
        self._first = first
        self._opened = opened
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

    def say(self, data: bytes) -> None:
        """Say something of its own accord, in the newest session."""
        assert self.open_connection is not None
        self.open_connection.sendall(data)

    def _serve(self, collector: Collector, connection: socket.socket) -> None:
        session = collector.connections
        answer = self._first[session - 1] if session <= len(self._first) else self._answer
        self.open_connection = connection
        reader = FrameReader(_LARGEST)
        while data := connection.recv(_READ):
            connection.sendall(b"".join(self._say(frame, answer) for frame in reader.receive(data)))

    def _say(self, frame: Frame, answer: Answer) -> bytes:
        if frame.command == b"open":
            return encode(frame.txnr, b"rsp", self._opened)
        if frame.command == b"close":
            self.closes += 1
            return encode(frame.txnr, b"rsp", b"")
        return answer(self, frame)
