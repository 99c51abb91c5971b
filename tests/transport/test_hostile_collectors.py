"""Collectors that answer without end: a stream that is drained ends, and answers that nobody asked for are refused."""

import socket
import threading
import time

import pytest
from harness.collector import Collector
from harness.ports import LOOPBACK

from relay.cli.event_output import _AUDIT_HEAD, _merged
from relay.errors import ProtocolError
from relay.syslog.auditd_remote import AuditdClient
from relay.syslog.relp import RelpClient
from relay.transport import StillOpenError
from relay.transport.tcp import TcpTransport


@pytest.mark.parametrize("answer", [b"x" * 65536, b"x"])
def test_a_collector_that_answers_a_drained_stream_without_end_is_left(answer: bytes) -> None:
    def flood(collector: Collector, connection: socket.socket) -> None:
        del collector
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            connection.sendall(answer)

    with Collector(flood) as collector:
        transport = TcpTransport(LOOPBACK, collector.port, threading.Event())
        pipe = transport.open()
        pipe.send(b"1 x")
        pipe.half_close()
        begun = time.monotonic()
        with pytest.raises(StillOpenError, match="the collector answers without end"):
            pipe.drained(600)
        transport.close()
        assert time.monotonic() - begun < 60


def _opened() -> RelpClient:
    client = RelpClient()
    client.open()
    offers = b"200 OK\nrelp_version=0\ncommands=syslog"
    client.receive(b"1 rsp %d %b\n" % (len(offers), offers))
    assert client.opened
    return client


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        (b"0 serverclose 0\n0 serverclose 0\n", "sent serverclose as frame 0"),
        (b"2 rsp 6 200 OK\n2 rsp 6 200 OK\n", "twice"),
        (b"3 rsp 6 200 OK\n", "which was never sent"),
        (b"x" * 200, "a frame begins with TXNR"),
    ],
)
def test_relp_answers_that_nobody_asked_for_end_the_session(answers: bytes, cause: str) -> None:
    client = _opened()
    client.send(b"<13>message")
    for at in range(0, len(answers), 4096):
        if client.error is None:
            client.receive(answers[at : at + 4096])
    assert isinstance(client.error, ProtocolError)
    assert cause in str(client.error)


def test_a_relp_answer_of_huge_length_takes_no_memory() -> None:
    client = _opened()
    client.send(b"<13>message")
    client.receive(b"2 rsp 999999999 200 ")
    for _ in range(100):
        client.receive(bytes(65536))
    assert len(client._reader._cut) + len(client._reader._begun) < 65536


def test_auditd_answers_that_nobody_asked_for_end_the_session() -> None:
    server, client = AuditdClient(), AuditdClient()
    asked = server.heartbeat()  # a message of a client where an answer is due
    client.heartbeat()
    client.receive(asked)
    assert isinstance(client.error, ProtocolError)


# --- What a stranger stored, shown by `relay events` ---


def test_many_parameters_of_one_element_take_linear_time() -> None:
    found = [(f"n{number}", "v") for number in range(100_000)]
    begun = time.process_time()
    (values,) = _merged([("id", [*found, ("n0", "w")])]).values()
    assert time.process_time() - begun < 10
    assert values["n0"] == ["v", "w"]
    assert values["n99999"] == "v"


def test_a_text_of_many_beginnings_of_records_takes_linear_time() -> None:
    begun = time.process_time()
    text = "type=" * 200_000
    assert _AUDIT_HEAD.sub("", text, count=1) == text
    assert time.process_time() - begun < 10
    assert _AUDIT_HEAD.sub("", "node=a type=SYSCALL msg=audit(1.000:1): pid=1", count=1) == "pid=1"
