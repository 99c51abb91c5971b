"""Lost servers: the alarms about them, and network-failure-action = "halt" with its objections."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from harness.certificates import Authority

from relay.delivery.destination import DeliveryFailure, Destination
from relay.delivery.message_selection import EVERYTHING
from relay.delivery.sessions.delivery_session import DeliverySession
from relay.errors import NoInputError, PermissionRefusedError, RelayError, UnavailableError
from relay.events.own_events import Author, gap
from relay.program.alarms import LOST_SECONDS
from relay.program.housekeeping import Housekeeping, HousekeepingPolicy, Watches, policy_of
from relay.program.intake import Intake
from relay.program.watch.all_users import AllUsers
from relay.program.watch.certificate_watch import INTERVAL, CertificateWatch, ConfiguredCertificate
from relay.program.watch.halt_request import HaltMethod, HaltRequest
from relay.spool.commit import Routing
from relay.spool.cursor import Cursor
from relay.spool.losses.gap import Gap
from relay.spool.spool import RunSeed
from relay.spool.store import Store
from relay.system.disk import Disk
from relay.values.clocks import Clocks
from relay.values.configuration.settings import RemoteLoggingServer, Settings
from relay.values.event import Event, EventType

AUTHOR = Author("h", "h", "", "128T")
SECOND = 1_000_000
DAY = 86_400 * SECOND
TIMEOUT = 600.0
CERTIFICATE = "router.pem"
LOST = UnavailableError("a", "refused")


def _nowhere(_: threading.Event) -> DeliverySession:
    raise LOST


class Servers:
    """Two servers, the first with network-failure-action = "halt", on clocks that the test moves."""

    def __init__(
        self, folder: Path, run: bytes = b"run00001", names: tuple[str, ...] = ("a", "b"), up: int = 3_600
    ) -> None:
        self.halted = folder / "halted"
        self.clocks = Clocks(1_000 * DAY, up * SECOND)
        state = str(folder / "state")
        self.store = Store(Disk(), state, segment_size=1 << 16, max_size=1 << 20, run=RunSeed(run, b"s" * 16))
        routing = Routing(frozenset({EventType.RELAY}), frozenset())
        self.intake = Intake(self.store, routing, self._gap, interval=0)
        self.all = [Destination(name, self.store, _nowhere, selection=EVERYTHING, start=Cursor()) for name in names]
        policy = HousekeepingPolicy(
            author=AUTHOR,
            disk_full_action="ignore",
            retention=DAY / SECOND,
            space_left=0,
            network_failure={"a": TIMEOUT},
        )
        self.folder = folder
        self.housekeeping = Housekeeping(
            Disk(), self.store, self.intake, self.all, policy, self._watches, lambda: self.clocks
        )

    def _watches(self, store: Store, former: Watches | None) -> Watches:
        del former
        halt = HaltMethod(command=("/usr/bin/touch", str(self.halted)), boot_id="a boot")
        return Watches(
            users=AllUsers(Disk(), str(self.folder / "message"), str(self.folder / "motd")),
            certificates=CertificateWatch([ConfiguredCertificate("b", "certificate", str(self.folder / CERTIFICATE))]),
            halt=HaltRequest(Disk(), store.slots, halt, lambda _: None),
        )

    @staticmethod
    def _gap(now: int, lost: Gap) -> Event:
        return gap(AUTHOR, now, lost)

    def lose(self, number: int) -> None:
        self.all[number].failure = DeliveryFailure(LOST, self.clocks.wall)

    def fail(self, number: int, error: RelayError) -> None:
        """It has been lost for as long as before, and now for this reason."""
        failure = self.all[number].failure
        assert failure is not None
        self.all[number].failure = failure._replace(error=error)

    def prove(self, number: int) -> None:
        """Prove a delivery to it at this moment."""
        server = self.all[number]
        server.failure = None
        server.proofs += 1
        server.cursor = msgspec.structs.replace(server.cursor, proven_at=self.clocks.wall, proof="drained")

    def after(self, seconds: float, *, wall_jumps: float = 0) -> list[str]:
        """Move the clocks and look; returns the alarm events: state, name, server."""
        step = int(seconds * SECOND)
        self.clocks = Clocks(self.clocks.wall + step + int(wall_jumps * SECOND), self.clocks.boot + step)
        return [_said(event) for event in self.housekeeping.look() if b" ALARM " in event.head]

    def heartbeats_after(self, seconds: float) -> int:
        """Move the clocks and look; how many heartbeats there are."""
        step = int(seconds * SECOND)
        self.clocks = Clocks(self.clocks.wall + step, self.clocks.boot + step)
        return sum(b" HEARTBEAT " in event.head for event in self.housekeeping.look())


def _said(event: Event) -> str:
    def value(name: bytes) -> str:
        return event.tail.partition(b' %b="' % name)[2].partition(b'"')[0].decode()

    return f"{value(b'state')} {value(b'alarm')} {value(b'server')}"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    made = Servers(tmp_path)
    with made.store:
        yield made


def test_a_lost_server_is_an_alarm_until_something_is_proven_again(servers: Servers) -> None:
    servers.lose(1)
    assert servers.after(0) == []
    assert servers.after(LOST_SECONDS) == ["add server-lost b"]
    assert servers.after(3600) == []
    servers.prove(1)
    assert servers.after(1) == ["clear server-lost b"]


def test_the_alarm_has_the_error_with_its_remedy_and_changes_with_the_kind_of_error(servers: Servers) -> None:
    def text() -> str:
        (change,) = servers.housekeeping.alarms.active
        return change.alarm.text

    servers.lose(1)
    servers.after(0)
    servers.after(LOST_SECONDS)
    assert text() == "nothing can be delivered to b: a: refused"
    servers.fail(1, UnavailableError("a", "no answer within 10 s"))  # the same object fails in the same way
    assert servers.after(1) == []
    servers.fail(1, PermissionRefusedError("private key k", "its mode 0644 lets others use it", "`chmod 600 k`"))
    assert servers.after(1) == ["add server-lost b"]
    assert text().endswith("private key k: its mode 0644 lets others use it; `chmod 600 k`")
    servers.fail(1, PermissionRefusedError("SSH server s", "x" * 5000))
    assert servers.after(1) == ["add server-lost b"]
    assert len(text()) < 500
    servers.prove(1)
    assert servers.after(1) == ["clear server-lost b"]


def test_an_alarm_of_an_earlier_run_keeps_its_text_until_there_is_an_error_or_a_proof(tmp_path: Path) -> None:
    first = Servers(tmp_path)
    with first.store:
        first.lose(1)
        first.after(0)
        first.after(LOST_SECONDS)
    second = Servers(tmp_path, b"run00002")
    with second.store:
        assert second.after(1) == []


def test_a_part_that_needs_a_repair_is_an_alarm_and_one_that_is_retried_is_not(servers: Servers) -> None:
    error: list[RelayError | None] = [UnavailableError("SSH server s", "connection refused")]
    servers.housekeeping.faults = lambda: {"port-forwarding p": error[0]}
    assert servers.after(1) == []
    error[0] = NoInputError("private key k", "there is no such file")
    assert servers.after(1) == ["add repair-needed port-forwarding p"]
    assert servers.after(3600) == []
    error[0] = None
    assert servers.after(1) == ["clear repair-needed port-forwarding p"]


def test_a_connection_that_broke_for_a_moment_is_not_a_lost_server(servers: Servers) -> None:
    for _ in range(10):
        servers.lose(1)
        assert servers.after(1) == []
        assert servers.after(1) == []
        servers.prove(1)
        assert servers.after(1) == []


def test_a_certificate_that_expires_is_an_alarm_about_its_server_until_it_is_renewed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.pair(CERTIFICATE.removesuffix(".pem"), days=3)
    servers = Servers(tmp_path)
    with servers.store:
        servers.clocks = Clocks(time.time_ns() // 1000, servers.clocks.boot)
        assert servers.after(0) == ["add certificate-ends b"]
        authority.pair(CERTIFICATE.removesuffix(".pem"), days=90)
        assert servers.after(INTERVAL) == ["clear certificate-ends b"]


def test_two_lost_servers_are_two_alarms(servers: Servers) -> None:
    servers.lose(0)
    servers.lose(1)
    servers.after(0)
    assert servers.after(LOST_SECONDS) == ["add server-lost a", "add server-lost b"]
    servers.prove(0)
    assert servers.after(1) == ["clear server-lost a"]


def test_a_restart_neither_ends_nor_repeats_the_alarm(tmp_path: Path) -> None:
    first = Servers(tmp_path)
    with first.store:
        first.lose(1)
        first.after(0)
        assert first.after(LOST_SECONDS) == ["add server-lost b"]
    second = Servers(tmp_path, b"run00002")
    with second.store:
        assert second.after(1) == []
        second.prove(1)
        assert second.after(1) == ["clear server-lost b"]


def test_a_server_that_is_still_lost_after_a_restart_keeps_its_alarms(tmp_path: Path) -> None:
    first = Servers(tmp_path)
    with first.store:
        first.lose(0)
        first.after(0)
        assert first.after(TIMEOUT) == ["add server-lost a", "add network-failure a"]
    second = Servers(tmp_path, b"run00002")
    with second.store:
        second.lose(0)
        assert second.after(0) == []
        assert second.after(TIMEOUT) == []
        second.prove(0)
        assert second.after(1) == ["clear server-lost a", "clear network-failure a"]


def test_the_alarm_of_a_server_that_left_the_configuration_is_cleared(tmp_path: Path) -> None:
    first = Servers(tmp_path)
    with first.store:
        first.lose(1)
        first.after(0)
        first.after(LOST_SECONDS)
    second = Servers(tmp_path, b"run00002", names=("a",))
    with second.store:
        assert second.after(1) == ["clear server-lost b"]


def test_the_halt_is_requested_when_a_server_is_lost_beyond_its_timeout(servers: Servers) -> None:
    servers.lose(0)
    servers.after(0)
    assert servers.after(TIMEOUT - 1) == ["add server-lost a"]
    assert not servers.halted.exists()
    assert servers.after(1) == ["add network-failure a"]
    assert servers.halted.exists()
    servers.halted.unlink()
    servers.prove(0)
    assert servers.after(1) == ["clear server-lost a", "clear network-failure a"]
    servers.lose(0)
    servers.after(0)
    servers.after(TIMEOUT)
    assert not servers.halted.exists(), "once a boot"


def test_a_lost_server_without_network_failure_action_halt_halts_nothing(servers: Servers) -> None:
    servers.lose(1)
    servers.after(0)
    assert servers.after(100 * TIMEOUT) == ["add server-lost b"]
    assert not servers.halted.exists()


def test_the_timeout_begins_anew_when_a_server_is_back_in_time(servers: Servers) -> None:
    servers.lose(0)
    servers.after(0)
    servers.after(TIMEOUT - 1)
    servers.prove(0)
    servers.lose(0)
    assert servers.after(0) == ["clear server-lost a"]
    assert servers.after(TIMEOUT - 1) == ["add server-lost a"]
    assert not servers.halted.exists()


def test_a_jump_of_the_wall_clock_does_not_count_as_time_without_a_server(servers: Servers) -> None:
    servers.lose(0)
    servers.after(0)
    servers.after(LOST_SECONDS, wall_jumps=86_400)
    assert not servers.halted.exists()


def test_delivery_to_other_servers_does_not_hold_the_halt_back(servers: Servers) -> None:
    """The halt is requested because of the lost server, so only its own cursor counts."""
    servers.lose(0)
    servers.after(0)
    servers.after(TIMEOUT - 1)
    servers.prove(1)
    servers.after(1)
    assert servers.halted.exists()


def test_a_moving_cursor_of_the_lost_server_holds_the_halt_back(servers: Servers) -> None:
    servers.lose(0)
    servers.after(0)
    servers.after(TIMEOUT - 30)
    servers.all[0].cursor = msgspec.structs.replace(servers.all[0].cursor, proven_at=servers.clocks.wall)
    servers.after(30)
    assert not servers.halted.exists()
    servers.after(30)
    assert servers.halted.exists()


def test_nothing_is_halted_within_15_minutes_of_the_boot(tmp_path: Path) -> None:
    servers = Servers(tmp_path, up=10)
    with servers.store:
        servers.lose(0)
        servers.after(0)
        assert servers.after(TIMEOUT) == ["add server-lost a", "add network-failure a"]
        assert not servers.halted.exists()
        servers.after(900 - TIMEOUT)
        assert servers.halted.exists()


def test_the_servers_to_halt_for_come_from_the_configuration() -> None:
    settings = Settings(
        remote_logging_server=(
            RemoteLoggingServer(name="a", network_failure_action="halt", network_failure_timeout="90s"),
            RemoteLoggingServer(name="b"),
        )
    )
    assert policy_of(settings).network_failure == {"a": 90.0}


def test_while_a_server_waits_for_any_message_there_is_a_heartbeat_every_two_seconds(servers: Servers) -> None:
    """A heartbeat shows whether the server accepts messages other than the suspect."""
    servers.all[1].needs_a_message = True
    assert [servers.heartbeats_after(1) for _ in range(6)] == [0, 1, 0, 1, 0, 1]
    servers.all[1].needs_a_message = False
    assert sum(servers.heartbeats_after(1) for _ in range(58)) == 0
