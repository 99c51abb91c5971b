"""`relay test-connection --sizes`: the largest message that a collector accepts."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.auditd_peer import AuditdPeer
from harness.certificates import SERVER, Authority, Shown
from harness.collector import Collector
from harness.openssh import Sshd
from harness.relay import Router
from harness.rsyslog import AbortingRsyslog, Rsyslog
from harness.syslog_ng import SyslogNg
from program.connection_test.asking import STEPS, Answer, ask

from relay.errors import TemporaryError
from relay.program.connection_test.sizes import largest_accepted

LIMIT = 8192
LARGEST = 1 << 20


def asked(folder: Path, sshd: Sshd, collector: int, *arguments: str, **keys: str | int) -> Answer:
    router = Router(folder, sshd, collector)
    router.server |= keys
    router.write_configuration()
    router.audit_log.touch()
    answer = ask(router.configuration, "--sizes", *arguments)
    assert list(answer.steps) == [*STEPS, "message sizes"]
    return answer


def found(answer: Answer) -> tuple[int, str, int | None]:
    server = answer.whole["servers"][0]
    return answer.exit_code, answer.steps["message sizes"]["outcome"], server["largest_message"]


def test_the_limit_of_imrelp_that_aborts_is_found(tmp_path: Path, sshd: Sshd) -> None:
    with AbortingRsyslog(LIMIT) as rsyslog:
        answer = asked(tmp_path, sshd, rsyslog.port, protocol="relp")
        assert found(answer) == (0, "warning", LIMIT)
        step = answer.steps["message sizes"]
        assert "8192 octets is the largest message that it accepts; max-message-size is 65536" in step["found"]
        assert "Whether it truncates messages cannot be observed" in step["found"]
        assert step["remedy"] == "set `max-message-size = 8192` for this server"
        assert all(b" TEST " in message for message in rsyslog.messages())


def test_the_limit_of_syslog_ng_that_closes_is_found(tmp_path: Path, sshd: Sshd) -> None:
    with SyslogNg("syslog", max_message_size=LIMIT) as syslog_ng:
        assert found(asked(tmp_path, sshd, syslog_ng.port)) == (0, "warning", LIMIT)


def reads_within_the_limit(connection: socket.socket) -> bool:
    """Read to the end of file; whether no message, with its octet count, is larger than LIMIT."""
    received = 0
    while received <= LIMIT and (data := connection.recv(1 << 16)):
        received += len(data)
    return received <= LIMIT


def test_a_collector_that_serves_one_connection_at_a_time_is_tested_to_its_limit(tmp_path: Path, sshd: Sshd) -> None:
    turn = threading.Lock()

    def serve(_: Collector, connection: socket.socket) -> None:
        with turn:
            reads_within_the_limit(connection)

    with Collector(serve) as collector:
        assert found(asked(tmp_path, sshd, collector.port, "--timeout", "2")) == (0, "warning", LIMIT - len("8187 "))


def test_a_collector_that_gets_stuck_on_large_messages_is_never_tested_without_a_proof(
    tmp_path: Path, sshd: Sshd
) -> None:
    ended = threading.Event()

    def serve(_: Collector, connection: socket.socket) -> None:
        if not reads_within_the_limit(connection):
            ended.wait(60)

    with Collector(serve) as collector:
        answer = asked(tmp_path, sshd, collector.port, "--timeout", "1")
        ended.set()
    assert found(answer) == (0, "warning", LIMIT - len("8187 "))
    assert answer.whole["servers"][0]["proof"] == "drained"


def test_rsyslog_that_truncates_accepts_every_size(tmp_path: Path, sshd: Sshd) -> None:
    """The report says so, and that truncation cannot be observed."""
    with Rsyslog("imrelp", LIMIT) as rsyslog:
        answer = asked(tmp_path, sshd, rsyslog.port, protocol="relp")
        assert found(answer) == (0, "ok", LARGEST)
        assert "truncates" in answer.steps["message sizes"]["found"]


def test_auditd_needs_no_test(tmp_path: Path, sshd: Sshd) -> None:
    with AuditdPeer() as auditd:
        answer = asked(tmp_path, sshd, auditd.port, protocol="auditd")
        assert found(answer) == (0, "ok", None)
        assert "8954 octets" in answer.steps["message sizes"]["found"]


def test_by_tls_and_straight_to_a_collector(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    pair = authority.pair(SERVER, "127.0.0.1")
    own = authority.pair("router.example")
    with AbortingRsyslog(LIMIT, tls=Shown(pair, authority.certificate)) as rsyslog:
        configuration = tmp_path / "relay.toml"
        (tmp_path / "audit.log").touch()
        configuration.write_text(
            f'[relay]\nstate-directory = "{tmp_path}/state"\n[audit]\nwatch-auditd = "never"\n'
            f'[[source]]\nname = "audit"\npath = "{tmp_path}/audit.log"\n[[remote-logging-server]]\n'
            f'port = {rsyslog.port}\nprotocol = "relp"\ntransport = "tls"\nca = "{authority.certificate}"\n'
            f'certificate = "{own.certificate}"\nprivate-key = "{own.key}"\nmax-message-size = "4KiB"\n'
        )
        assert found(ask(configuration, "--sizes")) == (0, "ok", LIMIT)


def test_without_a_proof_the_largest_size_cannot_be_found(tmp_path: Path, sshd: Sshd) -> None:
    with Rsyslog("imudp") as rsyslog:
        answer = asked(tmp_path, sshd, 1, port=rsyslog.port, transport="udp")
        assert found(answer) == (0, "warning", None)
        assert "cannot be found out" in answer.steps["message sizes"]["found"]


class TestBisection:
    @pytest.mark.parametrize("limit", [300, 301, 480, 8191, 8192, 8193, 65536, LARGEST - 1])
    def test_the_limit_is_found(self, limit: int) -> None:
        asked: list[int] = []
        assert largest_accepted(recording(asked, limit), 300, LARGEST) == limit
        assert len(asked) <= 35

    @pytest.mark.parametrize("limit", [LARGEST, LARGEST * 2])
    def test_a_collector_that_accepts_everything_is_sent_no_more_than_relay_ever_sends(self, limit: int) -> None:
        asked: list[int] = []
        assert largest_accepted(recording(asked, limit), 300, LARGEST) == LARGEST
        assert max(asked) == LARGEST

    def test_contradicting_answers_are_an_error(self) -> None:
        asked: list[int] = []
        with pytest.raises(TemporaryError, match="at one time and not at another"):
            largest_accepted(lambda size: recording(asked, 8192)(size) and len(asked) < 18, 300, LARGEST)


def recording(asked: list[int], limit: int) -> Callable[[int], bool]:
    def accepts(size: int) -> bool:
        asked.append(size)
        return size <= limit

    return accepts
