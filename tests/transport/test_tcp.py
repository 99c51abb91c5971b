import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from harness.collector import Collector
from harness.ports import LOOPBACK

from relay.errors import UnavailableError
from relay.transport import StillOpenError
from relay.transport.dial import connect
from relay.transport.tcp import TcpPipe, TcpTransport

TIMEOUT = 30.0


@contextlib.contextmanager
def pipe_to(collector: Collector, stop: threading.Event) -> Iterator[TcpPipe]:
    with collector, contextlib.closing(TcpTransport(LOOPBACK, collector.port, stop)) as transport:
        yield transport.open()


def test_a_drained_stream_was_read_to_its_end(stop: threading.Event) -> None:
    collector = Collector()
    with pipe_to(collector, stop) as pipe:
        pipe.send(b"x" * 1_000_000)
        pipe.half_close()
        pipe.drained(TIMEOUT)
        assert len(collector.received) == 1_000_000


def test_an_end_before_the_collector_has_everything_proves_nothing(stop: threading.Event) -> None:
    """Such an end was already in transit when relay began to send."""
    half_closed, done = threading.Event(), threading.Event()

    def serve(_: Collector, connection: socket.socket) -> None:
        half_closed.wait(TIMEOUT)
        connection.shutdown(socket.SHUT_WR)
        done.wait(TIMEOUT)

    with pipe_to(Collector(serve, window=4096), stop) as pipe:
        pipe.send(b"x" * 300_000)  # more than it takes without reading, less than our own kernel does
        pipe.half_close()
        half_closed.set()
        with pytest.raises(UnavailableError, match="before it had everything"):
            pipe.drained(TIMEOUT)
        done.set()


def test_a_collector_that_sends_without_end_is_still_open_after_the_timeout(stop: threading.Event) -> None:
    def serve(_: Collector, connection: socket.socket) -> None:
        while True:
            connection.sendall(b"x" * 65536)

    with pipe_to(Collector(serve), stop) as pipe:
        pipe.half_close()
        with pytest.raises(StillOpenError):
            pipe.drained(0.2)


def test_a_close_frees_a_thread_that_waits(stop: threading.Event) -> None:
    def serve(_: Collector, connection: socket.socket) -> None:
        connection.recv(1)
        threading.Event().wait(TIMEOUT)

    with pipe_to(Collector(serve), stop) as pipe:
        pipe.send(b"x")
        pipe.half_close()
        threading.Timer(0.1, pipe.close).start()
        with pytest.raises(UnavailableError, match="the connection is closed"):
            pipe.drained(TIMEOUT)


def test_a_close_during_connecting_closes_the_new_connection(
    stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect_late(*given: Any) -> socket.socket:
        connection: socket.socket = connect(*given)
        transport.close()
        return connection

    monkeypatch.setattr("relay.transport.tcp.connect", connect_late)
    with Collector() as collector:
        transport = TcpTransport(LOOPBACK, collector.port, stop)
        pipe = transport.open()
        with pytest.raises(UnavailableError, match="the connection is closed"):
            pipe.receive(TIMEOUT)
