"""Sessions with a configured server: its behaviour so far decides what counts as its proof."""

import logging
import re
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from delivery.blocks import block
from harness.collector import Collector
from harness.openssh import Sshd
from harness.waiting import wait_until
from program.history.spools import opened

from relay.delivery.destination import Destination
from relay.delivery.message_selection import EVERYTHING
from relay.delivery.sessions.drained_stream import DEFAULT_TIMEOUTS, DrainedStream, DrainTimeouts
from relay.delivery.sessions.server_connector import ServerConnector, SessionLimits
from relay.delivery.sessions.unproven_sessions import UnprovenDatagrams, UnprovenStream
from relay.errors import InternalError, UnavailableError
from relay.spool.cursor import Cursor
from relay.transport import StillOpenError
from relay.values.configuration.settings import RemoteLoggingServer

CURSOR = Cursor(retained=7, transient=3)
HASTY = DrainTimeouts(drain=0.5, empty=0.3)
FAIR = DrainTimeouts(drain=0.5, empty=60)
"""For a collector that surely closes a stream without a message, however busy the machine is."""


def through(sshd: Sshd, port: int, timeouts: DrainTimeouts = DEFAULT_TIMEOUTS) -> ServerConnector:
    return ServerConnector(RemoteLoggingServer(), sshd.forwarding(port), EVERYTHING, SessionLimits(drain=timeouts))


def never_close(collector: Collector, connection: socket.socket) -> None:
    """Read to the end of file, and keep the connection."""
    collector.read_to_the_end(connection)
    held.append(connection.dup())


held: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    yield
    for connection in held:
        connection.close()
    held.clear()


def test_a_collector_that_never_closes_is_recognised_and_gets_the_events_all_the_same(
    sshd: Sshd, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector(never_close) as collector:
        connect = through(sshd, collector.port, HASTY)
        for _ in range(2):
            session = connect(threading.Event())
            assert isinstance(session, DrainedStream)
            session.send(block([b"<13>1 - - - - - - a"]))
            with pytest.raises(StillOpenError, match="or it never closes a connection"):
                session.prove(CURSOR)
            session.close()
        session = connect(threading.Event())
        assert isinstance(session, UnprovenStream)
        assert session.proof == "unproven"
        assert [record.levelno for record in caplog.records if "cannot prove delivery" in record.message] == [
            logging.WARNING
        ]
        session.send(block([b"<13>1 - - - - - - b"]))
        assert session.prove(CURSOR) is None
        wait_until(lambda: collector.received.endswith(b" b"), 60, "its arrival")
        session.close()


def test_a_collector_that_is_slow_once_does_not_count_as_one_that_never_closes(sshd: Sshd) -> None:
    slow = threading.Event()

    def serve(collector: Collector, connection: socket.socket) -> None:
        had = len(collector.received)
        collector.read_to_the_end(connection)
        if len(collector.received) > had:
            slow.wait(300)

    with Collector(serve) as collector:
        connect = through(sshd, collector.port, FAIR)
        for _ in range(3):
            session = connect(threading.Event())
            assert isinstance(session, DrainedStream)
            session.send(block([b"<13>1 - - - - - - a"]))
            with pytest.raises(StillOpenError):
                session.prove(CURSOR)
            session.close()
        slow.set()
        wait_until(lambda: proves(connect), 60, "the proof")


def proves(connect: ServerConnector) -> bool:
    """Whether one more drained session proves a message."""
    session = connect(threading.Event())
    assert isinstance(session, DrainedStream)
    session.send(block([b"<13>1 - - - - - - a"]))
    try:
        wait_until(lambda: session.prove(CURSOR) == CURSOR, 60, "the proof")
    except StillOpenError:
        return False
    finally:
        session.close()
    return True


def test_a_proof_by_draining_delays_later_messages_for_less_than_ten_milliseconds(sshd: Sshd) -> None:
    """The proof settles 20 ms later, while later messages are under way."""
    with Collector() as collector:
        session = through(sshd, collector.port)(threading.Event())

        def held_up() -> float:
            """The best tenth of several, because the machine has other work."""
            times = []
            for number in range(1, 31):
                session.send(block([b"<13>1 - - - - - - %d" % number]))
                begun = time.monotonic()
                settled = session.prove(Cursor(retained=number))
                times.append(time.monotonic() - begun)
                assert settled in {None, Cursor(retained=number - 1)}
                wait_until(lambda: session.prove(CURSOR) == CURSOR, 60, "the proof")
            return statistics.quantiles(times, n=10)[0]

        wait_until(lambda: held_up() < 0.01, 60, "a proof that holds up for less than 10 ms")
        session.close()


def test_a_stream_that_ends_too_soon_voids_the_proof_before_it(sshd: Sshd) -> None:
    def serve(collector: Collector, connection: socket.socket) -> None:
        if collector.served == 1:
            collector.read_to_the_end(connection)

    with Collector(serve) as collector:
        session = through(sshd, collector.port)(threading.Event())
        session.send(block([b"<13>1 - - - - - - a"]))

        def voided() -> bool:
            try:
                assert session.prove(CURSOR) is None
            except UnavailableError as error:
                return "it ended the next stream at once" in str(error)
            return False

        wait_until(voided, 60, "the next stream's end")
        session.close()


def test_trust_settles_a_message_as_soon_as_the_socket_has_it() -> None:
    with Collector() as collector:
        server = RemoteLoggingServer(port=collector.port, unproven="trust")
        session = ServerConnector(server, None, EVERYTHING)(threading.Event())
        assert isinstance(session, UnprovenStream)
        session.send(block([b"<13>1 - - - - - - a"]))
        assert session.prove(CURSOR) == CURSOR
        session.close()


def test_a_stream_without_proof_that_the_collector_ends_is_lost() -> None:
    with Collector(lambda *_: None) as collector:
        session = ServerConnector(RemoteLoggingServer(port=collector.port), None, EVERYTHING)(threading.Event())

        def ended() -> bool:
            try:
                session.check()
            except UnavailableError as error:
                return "it closed the connection" in str(error)
            return False

        wait_until(ended, 60, "the end is noticed")
        session.close()


def test_a_refused_datagram_is_noticed_by_a_later_call() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    session = ServerConnector(RemoteLoggingServer(port=port, transport="udp"), None, EVERYTHING)(threading.Event())
    assert isinstance(session, UnprovenDatagrams)
    session.send(block([b"<13>1 - - - - - - a"]))

    def refused() -> bool:
        try:
            session.check()
        except UnavailableError as error:
            return "refused" in str(error)
        return False

    wait_until(refused, 60, "the refusal")
    session.close()


def test_a_message_larger_than_a_datagram_is_truncated() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(60)
        server = RemoteLoggingServer(port=collector.getsockname()[1], transport="udp", max_message_size=1 << 20)
        session = ServerConnector(server, None, EVERYTHING)(threading.Event())
        session.send(block([b"<13>1 - - - - - - " + b"x" * 100_000]))
        assert len(collector.recv(1 << 17)) == 65_507
        session.close()


def test_a_bug_is_one_line_with_its_place_and_delivery_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def connect(_: threading.Event) -> NoReturn:
        raise ZeroDivisionError("one")

    with opened(tmp_path) as store, caplog.at_level(logging.DEBUG, "relay"):
        destination = Destination("logs", store, connect, selection=EVERYTHING, start=Cursor())
        destination.start()
        wait_until(lambda: "to try again" in destination.state, 60, lambda: f"{destination!r} {destination.error}")
        assert isinstance(destination.error, InternalError)
        destination.stop()
    (line,) = (record.getMessage() for record in caplog.records if "ZeroDivisionError" in record.getMessage())
    assert re.fullmatch(
        r"lost logs: logs: a bug at relay/delivery/destination\.py:\d+: ZeroDivisionError: one; please report .*", line
    )
    assert "Traceback" not in caplog.text
