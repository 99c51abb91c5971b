"""RELP and the auditd protocol through sshd: the real collectors, and collectors of the wrong kind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.auditd import Auditd
from harness.openssh import Sshd
from harness.receiver import Receiver
from harness.relay import Router, archived
from harness.relp import RelpPeer
from harness.rsyslog import Rsyslog
from harness.waiting import wait_until
from program.connection_test.asking import STEPS, UNHURRIED, Answer, ask, ask_patiently

from relay.syslog.relp_frame import Frame
from relay.syslog.rfc5424 import identity, parse


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture(scope="module")
def imtcp() -> Iterator[Rsyslog]:
    with Rsyslog("imtcp") as rsyslog:
        yield rsyslog


@pytest.fixture(scope="module")
def imrelp() -> Iterator[Rsyslog]:
    with Rsyslog("imrelp") as rsyslog:
        yield rsyslog


@pytest.fixture(scope="module")
def auditd() -> Iterator[Auditd]:
    with Auditd() as server:
        yield server


def asked(folder: Path, sshd: Sshd, port: int, protocol: str, *arguments: str) -> Answer:
    return ask(configured(folder, sshd, port, protocol), *arguments)


def configured(folder: Path, sshd: Sshd, port: int, protocol: str) -> Path:
    router = Router(folder, sshd, port, protocol=protocol)
    router.audit_log.touch()
    return router.configuration


def fault(folder: Path, sshd: Sshd, port: int, protocol: str) -> dict[str, Any]:
    """How the test message fails with a collector that answers or closes."""
    return ask_patiently(configured(folder, sshd, port, protocol)).failure("test message", 76)


def silence(folder: Path, sshd: Sshd, port: int, protocol: str) -> dict[str, Any]:
    """How it fails with a collector that does nothing."""
    return asked(folder, sshd, port, protocol, *UNHURRIED).failure("test message", 76)


# --- The right kind ---


def test_by_relp_into_rsyslog_every_step_passes_and_the_message_arrives(
    tmp_path: Path, sshd: Sshd, imrelp: Rsyslog
) -> None:
    answer = asked(tmp_path, sshd, imrelp.port, "relp")
    assert (answer.exit_code, list(answer.steps), set(answer.outcomes())) == (0, STEPS, {"ok"})
    assert answer.whole["servers"][0]["proof"] == "acknowledged"
    assert answer.steps["proof"]["found"] == f"acknowledged: 127.0.0.1:{imrelp.port} answered 200 OK"
    assert answer.sentence.endswith("and its delivery is proven (acknowledged)")
    octets = imrelp.wait_for_messages(1)[-1]
    assert (parse(octets).app_name, parse(octets).msgid, identity(octets)) == (b"relay", b"TEST", None)
    assert "error" not in imrelp.log


def test_by_the_auditd_protocol_into_auditd_every_step_passes_and_the_record_arrives(
    tmp_path: Path, sshd: Sshd, auditd: Auditd
) -> None:
    answer = asked(tmp_path, sshd, auditd.port, "auditd")
    assert (answer.exit_code, list(answer.steps), set(answer.outcomes())) == (0, STEPS, {"ok"})
    assert answer.whole["servers"][0]["proof"] == "acknowledged"
    assert answer.steps["proof"]["found"].endswith("answered ACK")
    record = auditd.wait_for_records(1)[-1]
    assert record.startswith(b"node=combo1 type=TRUSTED_APP msg=audit(")
    assert b' app_name="relay"' in record
    assert b' msgid="TEST"' in record
    assert bytes.fromhex(record.rpartition(b" info=")[2].decode()).startswith(b"test message of ")


@pytest.mark.parametrize("protocol", ["relp", "auditd"])
def test_relay_receive_accepts_every_protocol(tmp_path: Path, sshd: Sshd, protocol: str) -> None:
    receiver = Receiver(tmp_path / "receiver")
    with receiver.running():
        answer = asked(tmp_path, sshd, receiver.port, protocol)
        assert (answer.exit_code, answer.whole["servers"][0]["proof"]) == (0, "acknowledged")
        # What is acknowledged is on the receiver's disk, and filed a little later.
        wait_until(
            lambda: any(b"TEST" in message for message in archived(receiver.archive)), 60, "the message is archived"
        )


@pytest.mark.parametrize("protocol", ["relp", "auditd"])
def test_without_sending_the_protocol_is_not_begun(tmp_path: Path, sshd: Sshd, protocol: str) -> None:
    with RelpPeer() as peer:
        answer = asked(tmp_path, sshd, peer.port, protocol, "--no-send")
        wait_until(lambda: peer.ended == 1, 60, "the collector has seen the end of the session")
        assert (peer.sessions, peer.messages, peer.closes) == (1, [], 0)
    assert (answer.exit_code, answer.outcomes()[-3:]) == (0, ["ok", "skipped", "skipped"])
    assert answer.sentence.endswith("nothing was sent")


# --- The wrong kind ---


def test_a_syslog_collector_answers_nothing_to_relps_open(tmp_path: Path, sshd: Sshd, imtcp: Rsyslog) -> None:
    failed = silence(tmp_path, sshd, imtcp.port, "relp")
    assert failed["found"] == f"collector 127.0.0.1:{imtcp.port}: no answer to RELP's open within 4 s"
    assert "one of syslog, or auditd, answers nothing to that" in failed["remedy"]


def test_auditd_answers_nothing_to_relps_open(tmp_path: Path, sshd: Sshd, auditd: Auditd) -> None:
    assert "no answer to RELP's open within 4 s" in silence(tmp_path, sshd, auditd.port, "relp")["found"]


def test_a_syslog_collector_answers_nothing_to_a_heartbeat(tmp_path: Path, sshd: Sshd, imtcp: Rsyslog) -> None:
    failed = silence(tmp_path, sshd, imtcp.port, "auditd")
    assert "no answer to auditd's heartbeat within 4 s" in failed["found"]
    assert "tcp_listen_port" in failed["remedy"]


def test_the_answer_of_a_relp_collector_to_a_heartbeat_is_quoted(tmp_path: Path, sshd: Sshd, imrelp: Rsyslog) -> None:
    failed = fault(tmp_path, sshd, imrelp.port, "auditd")
    assert failed["found"].endswith(r'it sent "0 serverclose 0\n"')
    assert "`protocol`" in failed["remedy"]


def test_a_relp_collector_answers_syslog_which_no_syslog_collector_does(
    tmp_path: Path, sshd: Sshd, imrelp: Rsyslog
) -> None:
    failed = fault(tmp_path, sshd, imrelp.port, "syslog")
    assert r'it sent "0 serverclose 0\n", and a syslog collector sends nothing' in failed["found"]


@pytest.mark.parametrize("protocol", ["syslog", "relp", "auditd"])
def test_an_ssh_server_in_the_collectors_place_is_quoted(tmp_path: Path, sshd: Sshd, protocol: str) -> None:
    failed = fault(tmp_path, sshd, sshd.port, protocol)
    assert '"SSH-2.0-OpenSSH' in failed["found"]
    assert "correct the port" in failed["remedy"]


def test_syslog_to_auditds_port_is_a_warning_because_auditd_drops_it_and_closes_like_a_collector(
    tmp_path: Path, sshd: Sshd, auditd: Auditd
) -> None:
    before = auditd.records()
    router = Router(tmp_path, sshd, 1)
    router.audit_log.touch()
    router.server["port"] = 60
    router.write_configuration()
    beside_it = [word for word in auditd._inside() if word != "--mount"]
    answer = ask(router.configuration, prefix=beside_it)
    assert (answer.exit_code, answer.steps["test message"]["outcome"]) == (0, "warning")
    assert "auditd drops syslog without a word" in answer.steps["test message"]["found"]
    assert answer.steps["test message"]["remedy"] == 'if it is auditd: `protocol = "auditd"`'
    assert auditd.records() == before


# --- Connections that are lost ---


def test_a_refusal_by_an_auditd_with_one_connection_from_each_address_names_its_key(tmp_path: Path, sshd: Sshd) -> None:
    with Auditd(per_address=1) as auditd, auditd.connect():
        failed = fault(tmp_path, sshd, auditd.port, "auditd")
    assert "it closed the connection before it answered auditd's heartbeat" in failed["found"]
    assert "tcp_max_per_addr above 1" in failed["remedy"]


def test_a_session_lost_before_the_answer_is_the_ssh_servers_fault(tmp_path: Path) -> None:
    with Sshd() as failing:

        def cut(peer: RelpPeer, frame: Frame) -> bytes:
            del peer, frame
            failing.kill_sessions()
            return b""

        with RelpPeer(cut) as peer:
            failed = asked(tmp_path, failing, peer.port, "relp").failure("proof", 76)
    assert failed["found"] == f"SSH server {failing.host}: the SSH session broke off"
