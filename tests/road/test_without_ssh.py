"""`relay run` straight to a collector, over TCP and UDP, between two hosts; and to one on this machine."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.collector import Collector, reset
from harness.names import with_addresses
from harness.openssh import Sshd
from harness.ports import free_port
from harness.relay import SEED, Router, audit_events
from harness.rsyslog import Rsyslog
from harness.two_hosts import SERVER, TwoHosts
from harness.waiting import wait_until

EVENTS = 26  # in SEED
IDENTITY = re.compile(rb' relayRun="([0-9a-f]{16})" relaySeq="(\d+)"')


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    with TwoHosts() as connected:
        yield connected


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


def router_on(hosts: TwoHosts, folder: Path, sshd: Sshd, **keys: str | int) -> Router:
    router = Router(folder, sshd, 1, address=SERVER)
    router.server |= keys
    router.write_configuration()
    router.prefix = hosts.router
    router.audit_log.write_bytes(SEED.read_bytes())
    return router


def identities(messages: list[bytes]) -> set[bytes]:
    return {match[0] for message in messages if (match := IDENTITY.search(message))}


def test_a_stream_between_two_hosts_is_drained(hosts: TwoHosts, tmp_path: Path, sshd: Sshd) -> None:
    with Rsyslog("imtcp", host=SERVER, prefix=hosts.server) as rsyslog:
        router = router_on(hosts, tmp_path, sshd, port=rsyslog.port)
        done = router.drain()
        assert done.returncode == 0, done.stderr
        assert router.status()["destinations"][0]["proof"] == "drained"
        assert len(audit_events(rsyslog.wait_for_messages(EVENTS + 1))) == EVENTS


def test_a_cable_that_is_cut_loses_nothing(hosts: TwoHosts, tmp_path: Path, sshd: Sshd) -> None:
    with Rsyslog("imtcp", host=SERVER, prefix=hosts.server) as rsyslog:
        router = router_on(hosts, tmp_path, sshd, port=rsyslog.port)
        with router.start() as relay:
            rsyslog.wait_for_messages(EVENTS)
            hosts.cut()
            try:
                with router.audit_log.open("ab") as log:
                    log.write(SEED.read_bytes().replace(b"audit(1", b"audit(2"))
                wait_until(lambda: "lost " in relay.log, 60, lambda: f"the loss in the log:\n{relay.log}")
            finally:
                hosts.reconnect()
            wait_until(lambda: len(identities(audit_events(rsyslog.messages()))) == 2 * EVENTS, 90, lambda: relay.log)
            relay.stop()


def test_relp_between_two_hosts_is_acknowledged(hosts: TwoHosts, tmp_path: Path, sshd: Sshd) -> None:
    with Rsyslog("imrelp", host=SERVER, prefix=hosts.server) as rsyslog:
        router = router_on(hosts, tmp_path, sshd, port=rsyslog.port, protocol="relp")
        done = router.drain()
        assert done.returncode == 0, done.stderr
        assert router.status()["destinations"][0]["proof"] == "acknowledged"
        assert len(audit_events(rsyslog.wait_for_messages(EVENTS + 1))) == EVENTS


def test_datagrams_arrive_and_are_reported_as_unproven(hosts: TwoHosts, tmp_path: Path, sshd: Sshd) -> None:
    with Rsyslog("imudp", host=SERVER, prefix=hosts.server) as rsyslog:
        router = router_on(hosts, tmp_path, sshd, port=rsyslog.port, transport="udp")
        done = router.drain()
        assert done.returncode == 0, done.stderr
        assert "cannot prove delivery (udp has no acknowledgement)" in done.stderr
        assert router.status()["destinations"][0]["proof"] == "unproven"
        assert len(audit_events(rsyslog.wait_for_messages(EVENTS + 1))) == EVENTS


@pytest.mark.parametrize("host", ["127.0.0.2", "127.0.0.3"])
def test_datagrams_reach_a_collector_on_any_address_of_its_name(host: str, tmp_path: Path, sshd: Sshd) -> None:
    with Rsyslog("imudp", host=host) as rsyslog:
        router = Router(tmp_path, sshd, 1, address="far.example", transport="udp", unproven="trust")
        router.server["port"] = rsyslog.port
        router.write_configuration()
        router.prefix = with_addresses(tmp_path, "far.example", ("::1", "127.0.0.3", "127.0.0.2"))
        router.audit_log.write_bytes(SEED.read_bytes())
        done = router.drain()
        assert done.returncode == 0, done.stderr
        assert len(identities(audit_events(rsyslog.wait_for_messages(EVENTS + 1)))) == EVENTS


@pytest.mark.parametrize("unproven", ["resend-window", "trust"])
def test_a_collector_on_this_machine_is_unproven(unproven: str, tmp_path: Path, sshd: Sshd) -> None:
    with Rsyslog("imtcp") as rsyslog:
        router = Router(tmp_path, sshd, 1, local_port=free_port(), unproven=unproven)
        router.server["port"] = rsyslog.port
        router.write_configuration()
        router.audit_log.write_bytes(SEED.read_bytes())
        done = router.drain()
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("cannot prove delivery (it is on this machine") == 1
        assert router.status()["destinations"][0]["proof"] == "unproven"
        assert len(audit_events(rsyslog.wait_for_messages(EVENTS + 1))) == EVENTS


def test_messages_that_a_local_forwarder_swallowed_shortly_before_a_loss_are_sent_again(
    tmp_path: Path, sshd: Sshd
) -> None:
    def swallow(collector: Collector, connection: socket.socket) -> None:
        """The first connection breaks once it has brought everything; the others go on."""
        first = collector.served == 1
        while data := connection.recv(1 << 16):
            collector.received += data
            if first and collector.received.count(b"relaySeq") > EVENTS:
                reset(connection)
                return

    with Collector(swallow) as forwarder:
        router = Router(tmp_path, sshd, 1, local_port=free_port(), unproven="resend-window")
        router.server["port"] = forwarder.port
        router.write_configuration()
        router.audit_log.write_bytes(SEED.read_bytes())
        with router.start() as relay:
            wait_until(lambda: forwarder.received.count(b"relaySeq") > 2 * EVENTS, 60, lambda: relay.log)
            relay.stop()
