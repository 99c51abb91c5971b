"""Pipes through OpenSSH's own server: arrival, valid and invalid proofs, and the events that free a blocked sender."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from harness.collector import Collector, reset
from harness.openssh import Sshd
from harness.rsyslog import Rsyslog
from harness.standstill import Standstill
from harness.waiting import wait_until

from relay.errors import InternalError, RelayError, TemporaryError, UnavailableError
from relay.transport import SETTLING
from relay.transport.ssh.handshake import HandshakeLimits
from relay.transport.ssh.liveness import LivenessTimeouts
from relay.transport.ssh.session import SshPipe, SshSession

_FAST = HandshakeLimits(liveness=LivenessTimeouts(quiet=0.2, answer=0.8))
_FREQUENT = HandshakeLimits(liveness=LivenessTimeouts(quiet=0.2, answer=4))
"""Asks as often, and gives a live server on a busy machine time to answer."""
_ANSWERS = 25
"""More than fit into the time after which an unresponsive server counts as dead."""
_MEGABYTE = b"x" * (1 << 20)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as well_behaved:
        yield well_behaved


@pytest.fixture
def session(sshd: Sshd, collector: Collector, stop: threading.Event) -> Iterator[SshSession]:
    with SshSession.connect(sshd.forwarding(collector.port), stop) as connected:
        yield connected


def _holding(released: threading.Event) -> Callable[[Collector, socket.socket], None]:
    """A collector that reads nothing, and closes once it is released."""

    def hold(_: Collector, connection: socket.socket) -> None:
        released.wait(300)
        del connection

    return hold


def _has_ended(pipe: SshPipe) -> bool:
    return pipe.ended


def _half_close(pipe: SshPipe) -> None:
    pipe.half_close()


def _send_message(pipe: SshPipe) -> None:
    pipe.send(b"message")


class _Sending:
    """A thread that sends until an error stops it, and that error."""

    def __init__(self, pipe: SshPipe, rounds: int = 1_000_000) -> None:
        self._pipe = pipe
        self._rounds = rounds
        self.error: RelayError | None = None
        self.sent = 0
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        try:
            for _ in range(self._rounds):
                self._pipe.send(_MEGABYTE)
                self.sent += len(_MEGABYTE)
        except RelayError as error:
            self.error = error

    def wait_until_blocked(self) -> None:
        """Return once nothing was accepted between two checks."""
        looks = [-1, -2]

        def same() -> bool:
            looks.append(self.sent)
            threading.Event().wait(0.1)
            return self.sent == looks[-1] == looks[-2] > 0

        wait_until(same, 60, "the sender blocks")

    def wait(self, seconds: float) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the sender is still blocked"


def test_a_drained_stream_has_arrived_completely(session: SshSession, collector: Collector) -> None:
    pipe = session.open()
    pipe.send(b"one")
    pipe.send(_MEGABYTE * 5)
    pipe.half_close()
    pipe.drained(60)
    session.open()  # the second half of the proof
    assert collector.received == b"one" + _MEGABYTE * 5


def test_rsyslog_has_every_message_of_a_drained_stream(sshd: Sshd, stop: threading.Event) -> None:
    messages = [b"<110>1 - h a - - - message %d\nwith a line" % number for number in range(5000)]
    with Rsyslog() as rsyslog, SshSession.connect(sshd.forwarding(rsyslog.port), stop) as session:
        pipe = session.open()
        pipe.send(b"".join(b"%d %s" % (len(message), message) for message in messages))
        pipe.half_close()
        pipe.drained(60)
        assert rsyslog.wait_for_messages(5000) == messages


def test_a_drain_of_a_small_stream_takes_milliseconds(session: SshSession) -> None:
    """TCP's delayed acknowledgements would take 44 ms each. The best run counts, because the machine is shared."""

    def drained_after() -> float:
        pipe = session.open()
        pipe.send(b"message")
        pipe.half_close()
        begun = time.monotonic()
        pipe.drained(60)
        return time.monotonic() - begun

    wait_until(lambda: drained_after() < 0.02, 60, "a drain within 20 ms")


def test_the_collectors_answers_and_its_end_can_be_read(sshd: Sshd, stop: threading.Event) -> None:
    def echo_once(_: Collector, connection: socket.socket) -> None:
        connection.sendall(connection.recv(100))
        connection.recv(100)  # until the half-close

    with Collector(echo_once) as echo, SshSession.connect(sshd.forwarding(echo.port), stop) as session:
        pipe = session.open()
        assert pipe.receive(0.01) is None
        pipe.send(b"hello")
        assert pipe.receive(60) == b"hello"
        assert not pipe.ended
        pipe.half_close()
        assert pipe.receive(60) == b""
        assert pipe.ended


def test_answers_after_the_half_close_do_not_prevent_the_drain(sshd: Sshd, stop: threading.Event) -> None:
    def talk(collector: Collector, connection: socket.socket) -> None:
        connection.sendall(_MEGABYTE * 4)
        collector.read_to_the_end(connection)

    with Collector(talk) as talker, SshSession.connect(sshd.forwarding(talker.port), stop) as session:
        pipe = session.open()
        pipe.send(b"message")
        pipe.half_close()
        pipe.drained(60)
        assert talker.received == b"message"


def test_a_collector_that_does_not_close_proves_nothing(sshd: Sshd, stop: threading.Event) -> None:
    released = threading.Event()
    with Collector(_holding(released)) as holder, SshSession.connect(sshd.forwarding(holder.port), stop) as session:
        pipe = session.open()
        pipe.send(b"message")
        pipe.half_close()
        with pytest.raises(TemporaryError, match="not closed"):
            pipe.drained(0.1)
        released.set()


def test_a_collector_that_closes_before_relay_proves_nothing(sshd: Sshd, stop: threading.Event) -> None:
    """As with a connection limit or an access list: it accepts, closes, and still listens: the next open succeeds."""
    with Collector(lambda *_: None) as closer, SshSession.connect(sshd.forwarding(closer.port), stop) as session:
        for use in (_half_close, _send_message):
            pipe = session.open()
            wait_until(partial(_has_ended, pipe), 60, "the collector's end is seen")
            with pytest.raises(UnavailableError, match="closed the connection"):
                use(pipe)
            session.open()


def test_a_stream_is_not_half_closed_before_the_collector_could_have_closed_it(session: SshSession) -> None:
    """Without this pause most of a hundred collectors that accept and close at once would look drained."""
    for _ in range(10):
        opening = time.monotonic()
        pipe = session.open()
        opened = time.monotonic()
        pipe.half_close()
        assert time.monotonic() - opening >= max(SETTLING, opened - opening)
        pipe.drained(60)


def test_a_collector_killed_after_the_half_close_is_detected_by_the_next_open(
    sshd: Sshd, stop: threading.Event
) -> None:
    """A reset becomes an end of file in sshd: the drain alone would be a false proof."""
    half_closed = threading.Event()

    def die(collector: Collector, connection: socket.socket) -> None:
        connection.recv(1 << 16)
        half_closed.wait(300)
        collector.stop_listening()
        reset(connection)

    with Collector(die) as dying, SshSession.connect(sshd.forwarding(dying.port), stop) as session:
        pipe = session.open()
        pipe.send(_MEGABYTE)
        pipe.half_close()
        half_closed.set()
        pipe.drained(60)
        with pytest.raises(UnavailableError, match="connection refused"):
            session.open()


def test_a_server_killed_after_the_half_close_is_not_an_end_of_file(sshd: Sshd, stop: threading.Event) -> None:
    released = threading.Event()
    with (
        Collector(_holding(released)) as holder,
        SshSession.connect(sshd.forwarding(holder.port), stop) as session,
    ):
        pipe = session.open()
        pipe.send(b"message")
        pipe.half_close()
        threading.Timer(0.1, sshd.kill).start()
        with pytest.raises(UnavailableError, match="broke off"):
            pipe.drained(60)
        released.set()


def test_a_server_killed_while_sending_frees_the_sender(sshd: Sshd, stop: threading.Event) -> None:
    with (
        Collector(_holding(stop)) as unreading,
        SshSession.connect(sshd.forwarding(unreading.port), stop) as session,
    ):
        sending = _Sending(session.open())
        sending.wait_until_blocked()
        sshd.kill()
        sending.wait(60)
        assert isinstance(sending.error, UnavailableError)
        wait_until(lambda: not session.alive, 60, "the session notices it too")
        stop.set()


def test_a_collector_that_closes_while_the_sender_is_blocked_frees_it(sshd: Sshd, stop: threading.Event) -> None:
    closing = threading.Event()
    with (
        Collector(_holding(closing)) as unreading,
        SshSession.connect(sshd.forwarding(unreading.port), stop) as session,
    ):
        sending = _Sending(session.open())
        sending.wait_until_blocked()
        closing.set()
        sending.wait(60)
        assert isinstance(sending.error, UnavailableError)
        assert session.alive


def test_closing_the_session_frees_a_blocked_sender_at_once(sshd: Sshd, stop: threading.Event) -> None:
    with (
        Collector(_holding(stop)) as unreading,
        SshSession.connect(sshd.forwarding(unreading.port), stop) as session,
    ):
        sending = _Sending(session.open())
        sending.wait_until_blocked()
        session.close()
        sending.wait(60)
        assert "closed" in str(sending.error)
        stop.set()


def test_nothing_is_sent_after_the_half_close_nor_drained_before_it(session: SshSession) -> None:
    pipe = session.open()
    with pytest.raises(InternalError):
        pipe.drained(1)
    pipe.half_close()
    with pytest.raises(InternalError):
        pipe.send(b"message")


# --- The watchdog ---


def test_a_frozen_server_is_noticed_within_15_seconds_although_messages_trickle_into_its_kernel(
    session: SshSession, sshd: Sshd
) -> None:
    pipe = session.open()
    pipe.send(b"message")
    sshd.stop_sessions()

    def trickle() -> bool:
        try:
            pipe.send(b"message")
        except UnavailableError:
            return True
        return not session.alive

    with Standstill() as standstill:
        frozen = time.monotonic()
        wait_until(trickle, 60, "the session dies")
        assert time.monotonic() - frozen - standstill.seconds < 15
    with pytest.raises(UnavailableError, match="not answered"):
        session.open()


def test_a_frozen_server_frees_a_sender_that_its_full_socket_blocks(
    sshd: Sshd, stop: threading.Event, collector: Collector
) -> None:
    with SshSession.connect(sshd.forwarding(collector.port), stop, limits=_FAST) as session:
        pipe = session.open()
        pipe.send(b"message")
        sshd.stop_sessions()
        sending = _Sending(pipe)
        sending.wait(60)
        assert "not answered" in str(sending.error)


def test_a_blocked_send_to_a_slow_collector_is_not_interrupted(sshd: Sshd, stop: threading.Event) -> None:
    resumed = threading.Event()

    def slow(collector: Collector, connection: socket.socket) -> None:
        resumed.wait(300)
        collector.read_to_the_end(connection)

    with (
        Collector(slow) as collector,
        SshSession.connect(sshd.forwarding(collector.port), stop, limits=_FREQUENT) as session,
    ):
        pipe = session.open()
        sending = _Sending(pipe, rounds=30)
        sending.wait_until_blocked()
        answers: list[int] = []

        def has_answered_often() -> bool:
            assert session.alive
            received = session._layer.watched.received
            if received not in answers:
                answers.append(received)
            return len(answers) > _ANSWERS

        wait_until(has_answered_often, 60, "the server answers again and again")
        resumed.set()
        sending.wait(60)
        assert sending.error is None
        pipe.half_close()
        pipe.drained(60)
        assert len(collector.received) == 30 * len(_MEGABYTE)


@pytest.mark.parametrize("side", ["server", "relay"])
def test_key_exchanges_during_a_transfer_disturb_neither_data_nor_watchdog(stop: threading.Event, side: str) -> None:
    options = ["RekeyLimit 1M"] if side == "server" else []
    with (
        Sshd([*options, "LogLevel DEBUG1"]) as sshd,
        Collector() as collector,
        SshSession.connect(sshd.forwarding(collector.port), stop, limits=_FREQUENT) as session,
    ):
        pipe = session.open()
        sending = _Sending(pipe, rounds=30)
        if side == "relay":
            for _ in range(3):
                session._layer.renegotiate_keys()
        sending.wait(60)
        assert sending.error is None
        pipe.half_close()
        pipe.drained(60)
        session.open()
        assert len(collector.received) == 30 * len(_MEGABYTE)
        assert sshd.log.count("rekey in after") > 3 or sshd.log.count("SSH2_MSG_NEWKEYS received") > 3


def test_many_pipes_do_not_leak_memory(session: SshSession) -> None:
    """By itself paramiko remembers every channel for ever."""
    for _ in range(1200):
        pipe = session.open()
        pipe.close()
    assert len(session._layer.channels_seen) <= 1024
    pipe = session.open()
    pipe.half_close()
    pipe.drained(60)
