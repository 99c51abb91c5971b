"""Servers without a port-forwarding: directly by TCP and UDP, between two hosts and on this machine."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import auditd_peer
from harness.auditd import Auditd
from harness.auditd_peer import AuditdPeer, Message
from harness.collector import Collector
from harness.names import with_addresses
from harness.openssh import Sshd
from harness.ports import free_port
from harness.relay import Router
from harness.relp import RelpPeer, accept, refuse
from harness.rsyslog import Rsyslog
from harness.two_hosts import SERVER, TwoHosts
from harness.waiting import wait_until
from program.connection_test.asking import HASTE, STEPS, UNHURRIED, Answer, ask, ask_patiently

from relay.program.connection_test import test_request
from relay.program.connection_test.connection_test import run_test
from relay.program.connection_test.report import Outcome
from relay.syslog.auditd_remote import DISKERROR, DISKFULL, DISKLOW, ENDING
from relay.syslog.relp_frame import Frame, encode

OF_SSH = {"private key", "SSH banner", "key exchange", "host key", "authentication", "local port", "forward"}


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    with TwoHosts() as connected:
        yield connected


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    """The SSH server of the configured forwarding, which leads to another server."""
    with Sshd() as server:
        yield server


@pytest.fixture
def router(tmp_path: Path, sshd: Sshd) -> Router:
    router = Router(tmp_path, sshd, 1)
    router.audit_log.touch()
    return router


def asked(router: Router, port: int, *arguments: str, **keys: str) -> Answer:
    configure(router, port, **keys)
    return ask(router.configuration, *arguments, prefix=router.prefix)


def configure(router: Router, port: int, **keys: str) -> None:
    router.server |= {"port": port, **keys}
    router.write_configuration()


def skipped(answer: Answer) -> set[str]:
    return {name for name, step in answer.steps.items() if step["outcome"] == "skipped"}


# --- Between two hosts ---


@pytest.fixture
def far(router: Router, hosts: TwoHosts) -> Router:
    """The router, on a host of its own."""
    router.prefix = hosts.router
    router.server["address"] = SERVER
    return router


@pytest.mark.parametrize(
    ("module", "protocol", "proof"), [("imtcp", "syslog", "drained"), ("imrelp", "relp", "acknowledged")]
)
def test_by_tcp_the_ssh_steps_are_skipped_and_the_message_is_proven(
    far: Router, hosts: TwoHosts, module: Any, protocol: str, proof: str
) -> None:
    with Rsyslog(module, host=SERVER, prefix=hosts.server) as rsyslog:
        answer = asked(far, rsyslog.port, protocol=protocol)
        assert b" TEST [" in rsyslog.wait_for_messages(1)[0]
    assert (answer.exit_code, list(answer.steps), skipped(answer)) == (0, STEPS, OF_SSH)
    assert answer.steps["authentication"]["found"] == "no port-forwarding leads there"
    assert (answer.steps["name resolution"]["found"], answer.whole["servers"][0]["proof"]) == (SERVER, proof)
    way = f"a test message went straight to {SERVER}:{rsyslog.port} by tcp, and its delivery is proven ({proof})"
    assert answer.sentence == f"{SERVER}:{rsyslog.port}: {way}; 1 warning"
    assert "by tcp without encryption" in answer.steps["configuration"]["found"]


def test_by_udp_the_message_arrives_and_the_missing_proof_is_a_warning(far: Router, hosts: TwoHosts) -> None:
    with Rsyslog("imudp", host=SERVER, prefix=hosts.server) as rsyslog:
        answer = asked(far, rsyslog.port, transport="udp")
        assert b" TEST [" in rsyslog.wait_for_messages(1)[0]
    assert (answer.exit_code, skipped(answer)) == (0, {*OF_SSH, "TCP connection"})
    step = answer.steps["proof"]
    assert (step["outcome"], step["found"]) == ("warning", "no proof can be had: udp has no acknowledgement")
    assert "relp" in step["remedy"]
    assert answer.whole["servers"][0]["proof"] == "unproven"
    assert answer.sentence.endswith("by udp, and its delivery cannot be proven (unproven); 2 warnings")


def test_a_datagram_that_the_other_host_refuses(far: Router) -> None:
    configure(far, free_port(), transport="udp")
    failed = ask_patiently(far.configuration, prefix=far.prefix).failure("test message", 76)
    assert failed["found"].endswith(f"(udp): {SERVER}: connection refused")
    assert failed["remedy"].startswith("check address and port, and that a collector listens there by UDP")


@pytest.fixture
def several_addresses(tmp_path: Path) -> list[str]:
    """The prefix of a command for which far.example is this machine, at three addresses."""
    return with_addresses(tmp_path, "far.example", ("::1", "127.0.0.3", "127.0.0.2"))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("host", ["127.0.0.2", "127.0.0.3"])
def test_a_collector_on_any_address_of_its_name_is_reached(
    router: Router, several_addresses: list[str], transport: str, host: str
) -> None:
    with Rsyslog("imudp" if transport == "udp" else "imptcp", host=host) as rsyslog:
        configure(router, rsyslog.port, address="far.example", transport=transport)
        answer = ask(router.configuration, prefix=several_addresses)
        assert b" TEST [" in rsyslog.wait_for_messages(1)[0]
    assert answer.exit_code == 0
    if transport == "udp":
        assert answer.steps["test message"]["found"].endswith(f"one datagram to {host}")


def test_when_every_address_of_a_name_refuses_datagrams_all_are_named(
    router: Router, several_addresses: list[str]
) -> None:
    configure(router, free_port(), address="far.example", transport="udp")
    failed = ask_patiently(router.configuration, prefix=several_addresses).failure("test message", 76)
    for address in ("127.0.0.2", "127.0.0.3"):
        assert f"{address}: connection refused" in failed["found"]


def test_a_port_that_the_other_host_refuses(far: Router) -> None:
    failed = asked(far, free_port()).failure("TCP connection", 69)
    assert f"{SERVER}: connection refused" in failed["found"]
    assert "no collector listens there" in failed["remedy"]


def test_a_cable_that_is_cut_is_no_answer_and_not_a_refusal(far: Router, hosts: TwoHosts) -> None:
    hosts.cut()
    try:
        failed = asked(far, 514, *HASTE).failure("TCP connection", 69)
    finally:
        hosts.reconnect()
    assert f"{SERVER}: no answer within 0.5 s" in failed["found"]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_name_that_does_not_resolve(router: Router, transport: str) -> None:
    failed = asked(router, 514, address="no-such-host.invalid", transport=transport).failure("name resolution", 68)
    assert "does not resolve" in failed["found"]
    assert "correct address" in failed["remedy"]


def test_a_name_that_resolves_only_once_fails_the_connection(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(router, 514, address="far.example")
    addresses = [socket.getaddrinfo("127.0.0.1", 514, type=socket.SOCK_STREAM)]

    def resolve_once(*_: object, **__: object) -> list[Any]:
        if not addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return addresses.pop()

    monkeypatch.setattr(socket, "getaddrinfo", resolve_once)
    report = run_test(test_request.TestRequest([str(router.configuration)]), lambda *_: None)
    (failed,) = [result for result in report.servers[0].results if result.outcome is Outcome.FAILED]
    assert (report.exit_code, failed.step) == (69, "TCP connection")
    assert "far.example" in failed.found
    assert "does not resolve" in failed.found


# --- On this machine ---


def test_syslog_to_this_machine_is_unproven_because_the_collector_may_be_a_forwarder(router: Router) -> None:
    with Rsyslog("imtcp") as rsyslog:
        answer = asked(router, rsyslog.port)
        assert b" TEST [" in rsyslog.wait_for_messages(1)[0]
    assert (answer.exit_code, answer.steps["proof"]["outcome"]) == (0, "warning")
    assert answer.steps["proof"]["found"].startswith("no proof can be had: it is on this machine")
    assert answer.whole["servers"][0]["proof"] == "unproven"


def test_relp_and_the_auditd_protocol_are_proven_on_this_machine_too(router: Router) -> None:
    with Rsyslog("imrelp") as rsyslog, Auditd() as auditd:
        for port, protocol in ((rsyslog.port, "relp"), (auditd.port, "auditd")):
            answer = asked(router, port, protocol=protocol)
            assert (answer.exit_code, answer.whole["servers"][0]["proof"]) == (0, "acknowledged")
        assert len(auditd.wait_for_records(1)) == 1


@pytest.mark.parametrize("protocol", ["syslog", "relp", "auditd"])
def test_without_sending_the_route_is_reported_and_nothing_is_sent(router: Router, protocol: str) -> None:
    with Collector() as collector:
        answer = asked(router, collector.port, "--no-send", protocol=protocol)
        wait_until(lambda: collector.ended == 1, 60, "the collector has seen the end of the connection")
        assert (collector.connections, collector.received) == (1, b"")
    assert (answer.exit_code, answer.steps["TCP connection"]["outcome"]) == (0, "ok")
    assert answer.steps["test message"]["found"] == "--no-send"
    assert f"the way straight to 127.0.0.1:{collector.port} by tcp is open; nothing was sent" in answer.sentence


def test_without_sending_udp_shows_nothing_about_the_route(router: Router) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)
        port = listening.getsockname()[1]
        answer = asked(router, port, "--no-send", transport="udp")
        with pytest.raises(BlockingIOError):
            listening.recv(1)
    assert answer.sentence == f"127.0.0.1:{port}: nothing was sent; 1 warning"


# --- What collectors do wrong ---


def fault(router: Router, port: int, step: str, protocol: str, timeout: str = "") -> tuple[str, str]:
    """The finding, and its remedy."""
    configure(router, port, protocol=protocol)
    failed = ask_patiently(router.configuration, timeout=timeout).failure(step, 76)
    found = failed["found"]
    assert found.startswith(f"collector 127.0.0.1:{port}: ")
    return found.partition(": ")[2], failed["remedy"]


@pytest.mark.parametrize(
    ("protocol", "found"),
    [
        ("syslog", "it closes the connection at once"),
        ("relp", "it closed the connection before it answered RELP's open"),
        ("auditd", "it closed the connection before it answered auditd's heartbeat"),
    ],
)
def test_a_collector_that_closes_at_once(router: Router, protocol: str, found: str) -> None:
    with Collector(lambda _, connection: connection.close()) as collector:
        assert fault(router, collector.port, "test message", protocol)[0] == found


GREETING = b"\x1b[2J220 mail.example ESMTP\r\n"


@pytest.mark.parametrize("protocol", ["syslog", "relp", "auditd"])
def test_garbage_is_quoted_with_its_control_characters_escaped(router: Router, protocol: str) -> None:
    def greet(collector: Collector, connection: socket.socket) -> None:
        connection.sendall(GREETING)
        collector.read_to_the_end(connection)

    with Collector(greet) as collector:
        found, remedy = fault(router, collector.port, "test message", protocol)
    assert r'"\x1b[2J220 mail.example ESMTP\r\n"' in found
    assert "what listens there?" in remedy


def no_answer(peer: RelpPeer, frame: Frame) -> bytes:
    accept(peer, frame)
    return b""


def another_frames_answer(peer: RelpPeer, frame: Frame) -> bytes:
    del peer
    return encode(frame.txnr + 1, b"rsp", b"200 OK")


def no_more(peer: RelpPeer, frame: Frame) -> bytes:
    accept(peer, frame)
    raise ConnectionAbortedError


@pytest.mark.parametrize(
    ("answer", "found", "remedy"),
    [
        (refuse, "it refuses the message: 500 the disk is full", "its log names the reason"),
        (no_answer, "no answer to the message within 4 s", "--timeout 60"),
        (no_more, "it closed the connection before it answered the message", "its log names the reason"),
        (
            another_frames_answer,
            "the message is not answered as it should be: the server answered frame 3, which was never sent",
            "what listens there?",
        ),
    ],
)
def test_a_relp_collector_that_does_not_accept_the_message(
    router: Router, answer: Any, found: str, remedy: str
) -> None:
    with RelpPeer(answer) as peer:
        told = fault(router, peer.port, "proof", "relp", UNHURRIED[1] if answer is no_answer else "")
    assert found in told[0]
    assert remedy in told[1]


@pytest.mark.parametrize(
    ("opened", "found"),
    [
        (b"500 not you", "it answers 500 not you"),
        (b"200 OK\nrelp_version=9\ncommands=syslog", "no relp_version 0 or 1"),
    ],
)
def test_a_relp_collector_that_refuses_the_session(router: Router, opened: bytes, found: str) -> None:
    with RelpPeer(opened=opened) as peer:
        assert found in fault(router, peer.port, "test message", "relp")[0]
        assert peer.messages == []


def says(type_: int) -> auditd_peer.Answer:
    return lambda _, message: auditd_peer.encode(type_, message.sequence)


def silence(peer: AuditdPeer, message: Message) -> bytes:
    del peer, message
    return b""


def nobodys_answer(peer: AuditdPeer, message: Message) -> bytes:
    del peer
    return auditd_peer.encode(0x40000000, message.sequence + 9)


@pytest.mark.parametrize(
    ("answer", "found", "remedy"),
    [
        (says(DISKFULL), "it answers the message with DISKFULL: its disk is full", "make room on the log server"),
        (says(DISKERROR), "it answers the message with DISKERROR: its disk fails", "look at the log server's disk"),
        (says(ENDING), "it answers the message with ENDING: it is stopping", "start it again"),
        (says(0x60000077), "it answers the message with type 0x60000077: it refuses it", "its log names the reason"),
        (silence, "no answer to the message within 4 s", "--timeout 60"),
        (nobodys_answer, "the message is not answered as it should be: ACK for 11, which was never sent", "protocol"),
    ],
)
def test_an_auditd_that_does_not_keep_the_record(router: Router, answer: Any, found: str, remedy: str) -> None:
    with AuditdPeer(answer) as peer:
        told = fault(router, peer.port, "proof", "auditd", UNHURRIED[1] if answer is silence else "")
    assert found in told[0]
    assert remedy in told[1]


def test_an_auditd_that_warns_has_the_record(router: Router) -> None:
    with AuditdPeer(says(DISKLOW)) as peer:
        answer = asked(router, peer.port, protocol="auditd")
    assert (answer.exit_code, answer.whole["servers"][0]["proof"]) == (0, "acknowledged")
    assert answer.steps["proof"]["outcome"] == "warning"
    assert answer.steps["proof"]["found"].endswith("has kept it and warns: DISKLOW")


def test_an_auditd_that_does_not_answer_the_heartbeat_is_sent_nothing(router: Router) -> None:
    with AuditdPeer(beats=0) as peer:
        found, _ = fault(router, peer.port, "test message", "auditd", HASTE[1])
        assert found.startswith("no answer to auditd's heartbeat")
        assert peer.records == []
