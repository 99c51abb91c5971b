"""A transport that keeps the first octets of each answer, to quote them when a collector is of the wrong kind."""

import contextlib
from typing import Final

from typing_extensions import override

from relay.errors import RelayError
from relay.transport import Pipe, Transport

EXCERPT: Final = 64
"""Octets that are kept."""


class ObservedTransport(Transport):
    """Streams on another transport, which stays open: `close` closes only the streams that were opened here."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._pipes: list[Pipe] = []
        self.received = b""
        """The first octets received since octets were last sent."""

    @property
    @override
    def alive(self) -> bool:
        return self._inner.alive

    @override
    def open(self) -> Pipe:
        pipe = _ObservedPipe(self._inner.open(), self)
        self._pipes.append(pipe)
        return pipe

    @override
    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()


class _ObservedPipe(Pipe):
    local = False

    def __init__(self, inner: Pipe, transport: ObservedTransport) -> None:
        self._inner = inner
        self._transport = transport
        self.local = inner.local

    @property
    @override
    def ended(self) -> bool:
        ended = self._inner.ended
        if ended:  # a session does not read on, but the last words explain the end
            with contextlib.suppress(RelayError):
                while self.receive(0):
                    pass
        return ended

    @override
    def send(self, data: bytes) -> None:
        self._transport.received = b""
        self._inner.send(data)

    @override
    def receive(self, timeout: float) -> bytes | None:
        data = self._inner.receive(timeout)
        self._transport.received = (self._transport.received + (data or b""))[:EXCERPT]
        return data

    @override
    def half_close(self) -> None:
        self._inner.half_close()

    @override
    def drained(self, timeout: float) -> None:
        self._inner.drained(timeout)

    @override
    def close(self) -> None:
        self._inner.close()
