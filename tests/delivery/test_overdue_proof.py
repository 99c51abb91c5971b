"""A collector or a transport that is frozen: status shows an error although no connection has ended."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.auditd import Auditd
from harness.certificates import SERVER, Authority, Shown
from harness.openssh import Sshd
from harness.process import signal_all, suspend
from harness.rsyslog import Rsyslog
from harness.waiting import wait_until
from program.history.spools import fill, foreign, opened

from relay.delivery.destination import OVERDUE_SECONDS, Destination
from relay.delivery.message_selection import EVERYTHING
from relay.delivery.sessions.server_connector import ServerConnector
from relay.errors import TemporaryError
from relay.program.status.live import WAITING_FOR_PROOF
from relay.spool.cursor import Cursor
from relay.spool.store import Store
from relay.system.clock import wall_clock
from relay.values.configuration.settings import PortForwarding, RemoteLoggingServer

SOON = 0.3


@contextmanager
def delivering(store: Store, server: RemoteLoggingServer, forwarding: PortForwarding | None) -> Iterator[Destination]:
    connector = ServerConnector(server, forwarding, EVERYTHING)
    destination = Destination("logs", store, connector, selection=EVERYTHING, start=Cursor(), overdue=SOON)
    destination.start()
    try:
        yield destination
    finally:
        destination.stop()


def message(number: int, octets: int = 100) -> bytes:
    return (b"<13>1 - - - - - - %d " % number).ljust(octets, b"x")


def deliver_one(store: Store, destination: Destination, octets: int = 100) -> None:
    fill(store, [[foreign(message(1, octets))]])
    wait_until(lambda: has_delivered(store, destination), 60, lambda: f"{destination!r} {destination.error}")
    assert destination.error is None


def has_delivered(store: Store, destination: Destination) -> bool:
    return destination.has_proven(store.retained.next_number, store.transient.next_number)


def sees_it(store: Store, destination: Destination, stopped: list[int], messages: list[bytes]) -> None:
    """While these processes are stopped, the messages are overdue; when they continue, the error ends."""
    suspend(stopped)
    try:
        begun = wall_clock()
        fill(store, [[foreign(each) for each in messages]])
        wait_until(lambda: destination.error is not None, 60, lambda: repr(destination))
        assert isinstance(destination.error, TemporaryError)
        assert "connected, but no proof for" in str(destination.error)
        assert "is its disk full" in str(destination.error)
        assert destination.state == WAITING_FOR_PROOF
        assert begun <= destination.error_since <= wall_clock() - SOON * 1_000_000
        assert destination.error_since == destination.error_since
    finally:
        signal_all(stopped, signal.SIGCONT)
    wait_until(lambda: has_delivered(store, destination), 60, lambda: f"{destination!r} {destination.error}")
    wait_until(lambda: destination.error is None, 60, lambda: str(destination.error))
    assert (destination.state, destination.error_since) == ("delivering", 0)


def test_the_limit_is_well_below_fifteen_seconds() -> None:
    assert OVERDUE_SECONDS + 1 < 15


@pytest.mark.parametrize("protocol", ["syslog", "relp"])
@pytest.mark.parametrize("frozen", ["collector", "ssh"])
def test_a_frozen_collector_or_ssh_session(tmp_path: Path, sshd: Sshd, protocol: str, frozen: str) -> None:
    with Rsyslog("imrelp" if protocol == "relp" else "imtcp") as rsyslog, opened(tmp_path) as store:
        server = RemoteLoggingServer.model_validate({"protocol": protocol, "port": rsyslog.port})
        with delivering(store, server, sshd.forwarding(rsyslog.port)) as destination:
            deliver_one(store, destination)
            stopped = [rsyslog.pid] if frozen == "collector" else sshd.sessions()
            sees_it(store, destination, stopped, [message(2)])


def test_a_collector_that_accepts_no_more_octets(tmp_path: Path, sshd: Sshd) -> None:
    """The send itself blocks when every buffer is full."""
    with Rsyslog("imtcp") as rsyslog, opened(tmp_path, segment_size=64 << 20) as store:
        server = RemoteLoggingServer(max_message_size=1 << 20)
        with delivering(store, server, sshd.forwarding(rsyslog.port)) as destination:
            deliver_one(store, destination, 1 << 20)
            sees_it(store, destination, [rsyslog.pid], [message(number, 1 << 20) for number in range(24)])


def test_a_frozen_auditd(tmp_path: Path) -> None:
    with (
        Auditd() as auditd,
        opened(tmp_path) as store,
        delivering(store, RemoteLoggingServer(protocol="auditd", port=auditd.port), None) as destination,
    ):
        deliver_one(store, destination)
        sees_it(store, destination, [auditd.pid], [message(2)])


def test_a_frozen_collector_while_the_next_tls_stream_is_opened(tmp_path: Path, sshd: Sshd) -> None:
    authority = Authority(tmp_path / "certificates")
    shown = Shown(authority.pair(SERVER), authority.certificate)
    own = authority.pair("router.example")
    keys = {"transport": "tls", "ca": str(authority.certificate), "server-name": SERVER}
    keys |= {"certificate": str(own.certificate), "private-key": str(own.key)}
    with Rsyslog("imtcp", tls=shown) as rsyslog, opened(tmp_path / "state") as store:
        server = RemoteLoggingServer.model_validate(keys)
        suspend([rsyslog.pid])
        with delivering(store, server, sshd.forwarding(rsyslog.port)) as destination:
            wait_until(lambda: destination.error is not None, 60, lambda: repr(destination))
            assert "no connection for" in str(destination.error)
            signal_all([rsyslog.pid], signal.SIGCONT)
            deliver_one(store, destination)


def test_an_idle_collector_is_not_an_error(tmp_path: Path, sshd: Sshd) -> None:
    with Rsyslog("imrelp") as rsyslog, opened(tmp_path) as store:
        server = RemoteLoggingServer(protocol="relp")
        with delivering(store, server, sshd.forwarding(rsyslog.port)) as destination:
            deliver_one(store, destination)
            threading.Event().wait(2 * SOON)  # long enough for the limit to pass
            assert destination.error is None
