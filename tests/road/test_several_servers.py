"""`relay run` to several servers: each has its own types, protocol and speed, and none waits for another."""

import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from harness.collector import Collector
from harness.openssh import Sshd
from harness.ports import free_port
from harness.records import closed, generate, serials
from harness.relay import SEED, Router, audit_events, nothing_waits
from harness.rsyslog import Rsyslog
from harness.waiting import wait_until

EVENTS = 26  # in SEED
SMALL = '[spool]\nmax-size = "8MiB"\nsegment-size = "1MiB"\n'


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


def add_server(router: Router, remote_port: int, **keys: object) -> str:
    """Another server through a forwarding of its own; its name."""
    name, port = f"second-{remote_port}", free_port()
    forwarding = router.forwarding | {"local-port": port, "remote-port": remote_port}
    server = {"name": name, "port": port, **{key.replace("_", "-"): value for key, value in keys.items()}}
    tables = (("port-forwarding", forwarding), ("remote-logging-server", server))
    text = "".join(
        "\n".join((f"[[{name}]]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()), ""))
        for name, table in tables
    )
    router.configuration.write_text(router.configuration.read_text() + text)
    return name


def make_small(router: Router) -> None:
    """Give it a spool that is soon full; nothing is accepted then, and the halt that it requests is harmless."""
    router.audit |= {"disk-full-action": "halt", "halt-command": ["true"]}
    router.write_configuration()
    router.configuration.write_text(router.configuration.read_text() + SMALL)


def destination(router: Router, name: str) -> dict[str, object]:
    return next(each for each in router.status()["destinations"] if each["name"] == name)


def never_read(collector: Collector, connection: socket.socket) -> None:
    del collector
    holding.append(connection.dup())
    released.wait(300)


holding: list[socket.socket] = []
released = threading.Event()


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    released.clear()
    yield
    released.set()
    for connection in holding:
        connection.close()
    holding.clear()


def test_each_server_gets_its_types_by_its_protocol(router: Router, rsyslog: Rsyslog) -> None:
    router.audit_log.write_bytes(SEED.read_bytes())
    with Rsyslog("imrelp") as second:
        name = add_server(router, second.port, protocol="relp", types=["admin"])
        done = router.drain()
        assert done.returncode == 0, done.stderr
        assert len(audit_events(rsyslog.wait_for_messages(EVENTS + 1))) == EVENTS
        (own,) = second.wait_for_messages(1)
        assert b" OPENING [" in own
        assert destination(router, name)["proof"] == "acknowledged"


def test_a_dead_and_a_slow_server_do_not_slow_another(router: Router, rsyslog: Rsyslog) -> None:
    """The dead one refuses, the slow one accepts only what sockets hold; the third gets everything meanwhile."""
    records = closed(generate(20_000))
    router.audit_log.write_bytes(records)
    with Collector(never_read) as slow:
        names = [add_server(router, free_port()), add_server(router, slow.port)]
        with router.start() as relay:
            wait_until(
                lambda: (
                    len(serials(rsyslog.output.read_bytes() if rsyslog.output.exists() else b""))
                    == len(serials(records))
                ),
                60,
                lambda: relay.log,
            )
            wait_until(lambda: nothing_waits(router.state, f"127.0.0.1:{router.local_port}"), 60, "proof")
            assert all(int(str(destination(router, name)["waiting_events"])) > 0 for name in names)
            released.set()
            relay.stop()


def arrived(rsyslog: Rsyslog) -> set[int]:
    return serials(rsyslog.output.read_bytes() if rsyslog.output.exists() else b"")


def _deliver_more_than_the_spool_holds(
    router: Router, rsyslog: Rsyslog, until: Callable[[], object] = lambda: True
) -> None:
    written: set[int] = set()
    with router.start() as relay:
        for nth in range(4):
            records = closed(generate(10_000, first_serial=100_000 * (nth + 1)))
            written |= serials(records)
            with router.audit_log.open("ab") as log:
                log.write(records)
            wait_until(lambda: arrived(rsyslog) >= written, 60, lambda: f"{router.status()}\n{relay.log}")  # noqa: B023  waited for right here
        wait_until(until, 60, lambda: f"{router.status()}\n{relay.log}")
        relay.stop()


def test_a_server_that_is_not_required_never_delays_the_others_and_what_it_misses_is_counted(
    router: Router, rsyslog: Rsyslog
) -> None:
    make_small(router)
    name = add_server(router, free_port(), required=False)
    server = f'server="{name}"'.encode()

    def is_reported() -> bool:
        return any(b" GAP [" in message and server in message for message in rsyslog.messages())

    _deliver_more_than_the_spool_holds(router, rsyslog, is_reported)
    assert is_reported()


def test_a_server_that_left_the_configuration_no_longer_keeps_segments(router: Router, rsyslog: Rsyslog) -> None:
    make_small(router)
    without = router.configuration.read_text()
    name = add_server(router, free_port())
    router.audit_log.write_bytes(SEED.read_bytes())
    with router.start() as relay:
        wait_until(lambda: len(audit_events(rsyslog.messages())) == EVENTS, 60, lambda: relay.log)
        relay.stop()
    assert destination(router, name)["waiting_events"] == EVENTS + 1
    router.configuration.write_text(without)
    _deliver_more_than_the_spool_holds(router, rsyslog)
