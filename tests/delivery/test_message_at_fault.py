"""A message that a collector does not accept, among 500: it is set aside and counted, and all others arrive."""

import math
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.certificates import ROUTER, SERVER, Authority, Shown
from harness.collector import Collector
from harness.openssh import Sshd
from harness.relp import RelpPeer, accept
from harness.rsyslog import AbortingRsyslog
from harness.syslog_ng import SyslogNg
from harness.waiting import wait_until
from program.history.spools import filled, foreign, opened

from relay.delivery.destination import NOT_ACCEPTED, Destination
from relay.delivery.message_selection import EVERYTHING
from relay.delivery.sessions.drained_stream import AcceptedSize
from relay.delivery.sessions.server_connector import ServerConnector
from relay.spool.cursor import Cursor
from relay.spool.store import Store
from relay.syslog.relp_frame import Frame
from relay.values.configuration.settings import PortForwarding, RemoteLoggingServer

LIMIT = 8192
MESSAGES = 500
BAD = 250


def message(number: int, octets: int = 200) -> bytes:
    return (b"<13>1 - - - - - - %d " % number).ljust(octets, b"x")


def number_of(message: bytes) -> int:
    return int(message.split(b" ", 8)[7])


def spooled(folder: Path, bad: int = BAD, octets: int = 9000) -> None:
    """500 messages in ten blocks, of which one is too large."""
    messages = [message(number, octets if number == bad else 200) for number in range(MESSAGES)]
    filled(folder, *([foreign(each) for each in messages[at : at + 50]] for at in range(0, MESSAGES, 50)))


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd(["MaxStartups 100", "MaxSessions 100"]) as server:
        yield server


@contextmanager
def delivering(
    store: Store, server: RemoteLoggingServer, forwarding: PortForwarding | None, accepted: AcceptedSize | None = None
) -> Iterator[Destination]:
    connect = ServerConnector(server, forwarding, EVERYTHING, accepted=accepted)
    destination = Destination("logs", store, connect, selection=EVERYTHING, start=store.begin("logs", Cursor(), ~0))
    destination.start()
    try:
        yield destination
    finally:
        destination.stop()


def has_delivered(destination: Destination, store: Store) -> Callable[[], bool]:
    return lambda: destination.has_proven(store.retained.next_number, store.transient.next_number)


def judge(folder: Path, store: Store, destination: Destination, arrived: list[bytes]) -> Counter[int]:
    """499 distinct ones arrived, the other is kept and counted; how often each arrived."""
    times = Counter(map(number_of, arrived))
    assert sorted(times) == [number for number in range(MESSAGES) if number != BAD]
    assert (folder / "refused" / "logs.syslog").read_bytes() == b"9000 " + message(BAD, 9000)
    (gap,) = store.losses.pending()
    assert (gap.cause, gap.events, gap.ranges[0].first) == (NOT_ACCEPTED, 1, BAD + 1)
    assert (destination.refused, destination.largest_refused) == (1, 9000)
    assert destination.cursor.delivered == MESSAGES - 1
    assert destination.error is None
    return times


@pytest.mark.parametrize("way", ["ssh", "tcp"])
def test_imrelp_aborts_on_it(tmp_path: Path, sshd: Sshd, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """Only the messages that it has kept but not acknowledged when it aborts are sent again."""
    spooled(tmp_path)
    with AbortingRsyslog(LIMIT) as rsyslog, opened(tmp_path) as store:
        server = RemoteLoggingServer(protocol="relp", port=rsyslog.port, max_message_size=1 << 16)
        forwarding = sshd.forwarding(rsyslog.port) if way == "ssh" else None
        with delivering(store, server, forwarding) as destination:
            wait_until(has_delivered(destination, store), 60, lambda: f"{destination!r} {destination.error}")
            rsyslog.wait_for_messages(MESSAGES - 1)
            times = judge(tmp_path, store, destination, rsyslog.messages())
    repeated = {number: times[number] for number in times if times[number] > 1}
    assert all(number < BAD for number in repeated), "what follows was never sent twice"
    assert all(count <= 3 for count in repeated.values()), "two losses at most before each is sent by itself"
    assert "log event 251 of 9000 octets" in caplog.text
    assert "set max-message-size" in caplog.text


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_syslog_ng_closes_on_it(tmp_path: Path, sshd: Sshd, transport: str, caplog: pytest.LogCaptureFixture) -> None:
    """The large message has a stream of its own, so everything before it is proven and not sent again."""
    spooled(tmp_path)
    authority = Authority(tmp_path / "certificates")
    own = authority.pair(ROUTER)
    by_tls = {
        "transport": "tls",
        "ca": str(authority.certificate),
        "server-name": SERVER,
        "certificate": str(own.certificate),
        "private-key": str(own.key),
    }
    shown = Shown(authority.pair(SERVER), authority.certificate) if transport == "tls" else None
    with SyslogNg("syslog", max_message_size=LIMIT, tls=shown) as syslog_ng, opened(tmp_path) as store:
        keys = by_tls if transport == "tls" else {}
        server = RemoteLoggingServer.model_validate({"max-message-size": "64KiB", **keys})
        with delivering(store, server, sshd.forwarding(syslog_ng.port)) as destination:
            wait_until(has_delivered(destination, store), 60, lambda: f"{destination!r} {destination.error}")
            wait_until(lambda: len(syslog_ng.messages()) >= MESSAGES - 1, 60, lambda: syslog_ng.log)
            times = judge(tmp_path, store, destination, syslog_ng.messages())
    assert set(times.values()) == {1}
    assert "set max-message-size" in caplog.text


def closes_on_content(collector: Collector, connection: socket.socket) -> None:
    """Keep every line until one with a certain word; then close, with everything after it unread."""
    received = b""
    while data := connection.recv(1 << 16):
        received += data
        if b"never" in received:
            before, line, _ = received[: received.index(b"never")].rpartition(b"\n")
            collector.received += before + line
            return
    collector.received += received


def test_a_message_of_ordinary_size_is_found_by_halving(tmp_path: Path, sshd: Sshd) -> None:
    """Every stream is watched, as after any stream that the collector has closed by itself."""
    messages = [message(number) for number in range(MESSAGES)]
    messages[BAD] = messages[BAD].replace(b"xxxxx", b"never", 1)
    watched = AcceptedSize(watched_streams=math.inf)
    filled(tmp_path, [foreign(each) for each in messages])
    with Collector(closes_on_content) as collector, opened(tmp_path) as store:
        server = RemoteLoggingServer(framing="non-transparent")
        with delivering(store, server, sshd.forwarding(collector.port), watched) as destination:
            wait_until(has_delivered(destination, store), 60, lambda: f"{destination!r} {destination.error}")
            assert destination.refused == 1
    arrived = {number_of(line) for line in collector.received.splitlines()}
    assert arrived == set(range(MESSAGES)) - {BAD}
    assert (tmp_path / "refused" / "logs.syslog").read_bytes().endswith(messages[BAD])


def test_a_collector_that_is_killed_again_and_again_makes_no_message_at_fault(tmp_path: Path, sshd: Sshd) -> None:
    spooled(tmp_path, octets=2000)
    chance = random.Random(3)
    with AbortingRsyslog(LIMIT) as rsyslog, opened(tmp_path) as store:
        server = RemoteLoggingServer(protocol="relp", port=rsyslog.port, max_message_size=1 << 16)
        with delivering(store, server, sshd.forwarding(rsyslog.port)) as destination:
            for _ in range(6):
                time.sleep(chance.uniform(0, 0.2))  # no wait for anything: a moment by chance
                rsyslog.kill()
                rsyslog.start()
            wait_until(has_delivered(destination, store), 120, lambda: f"{destination!r} {destination.error}")
            assert destination.refused == 0
            assert store.losses.pending() == []


def test_a_collector_that_ends_every_session_makes_no_message_at_fault(tmp_path: Path) -> None:
    """However long the fault lasts; afterwards every message arrives."""
    sick = threading.Event()
    sick.set()

    def answer(peer: RelpPeer, frame: Frame) -> bytes:
        if sick.is_set():
            raise ConnectionAbortedError
        return accept(peer, frame)

    spooled(tmp_path)
    with RelpPeer(answer) as peer, opened(tmp_path) as store:
        server = RemoteLoggingServer(protocol="relp", port=peer.port, max_message_size=1 << 16)
        with delivering(store, server, None) as destination:
            wait_until(lambda: destination.suspicion.probes >= 1, 60, lambda: repr(destination.suspicion))
            assert "max-message-size" in str(destination.error)
            sick.clear()
            wait_until(has_delivered(destination, store), 120, lambda: f"{destination!r} {destination.error}")
            assert destination.refused == 0
    assert sorted(set(map(number_of, peer.messages))) == list(range(MESSAGES))
    assert max(Counter(peer.messages).values()) == 1, "what was acknowledged was not sent again, a probe neither"


def test_a_suspected_message_without_another_after_it_waits_for_one(tmp_path: Path) -> None:
    """Nothing shows that the collector works until something else has been proven."""

    def answer(peer: RelpPeer, frame: Frame) -> bytes:
        if len(frame.data or b"") > LIMIT:
            raise ConnectionAbortedError
        return accept(peer, frame)

    filled(tmp_path, [foreign(message(0, 9000))])
    with RelpPeer(answer) as peer, opened(tmp_path) as store:
        server = RemoteLoggingServer(protocol="relp", port=peer.port, max_message_size=1 << 16)
        with delivering(store, server, None) as destination:
            wait_until(lambda: destination.suspicion.failed, 60, lambda: repr(destination.suspicion))
            assert destination.refused == 0
            assert "log event 1 of 9000 octets" in str(destination.error)
