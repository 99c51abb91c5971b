"""RELP from one end to the other: `relay run` into rsyslog's imrelp and into `relay receive`, and omrelp into that."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.openssh import Sshd
from harness.ports import LOOPBACK
from harness.receiver import Receiver, identities
from harness.records import closed, generate, serials
from harness.relay import SEED, Router, archived, audit_events, look
from harness.rsyslog import Rsyslog, RsyslogForwarder
from harness.waiting import wait_until

from relay.syslog import framing

RECORDS = 10_000


@pytest.fixture
def rsyslog() -> Iterator[Rsyslog]:
    with Rsyslog("imrelp") as collector:
        yield collector


def records_of(messages: list[bytes]) -> list[bytes]:
    return [line for message in audit_events(messages) for line in message.partition(b"] type=")[2].split(b"\ntype=")]


def delivered(router: Router) -> int:
    """How many messages are proven; a server is not in the state directory before its first proof."""
    found = look(router.state)
    return sum(destination.delivered for destination in found.destinations) if found is not None else 0


@pytest.mark.parametrize("way", ["ssh", "tcp"])
def test_the_golden_events_reach_imrelp_and_are_acknowledged(
    tmp_path: Path, sshd: Sshd, rsyslog: Rsyslog, way: str
) -> None:
    router = Router(tmp_path, sshd, rsyslog.port, protocol="relp")
    if way == "tcp":
        router.server["port"] = rsyslog.port
        router.write_configuration()
    router.audit_log.write_bytes(SEED.read_bytes())

    done = router.drain()

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    messages = rsyslog.wait_for_messages(26 + 1)
    expected = [line.removeprefix(b"type=") for line in SEED.read_bytes().splitlines()]
    assert sorted(records_of(messages)) == sorted(expected)
    destination = router.status()["destinations"][0]
    assert (destination["proof"], destination["delivered"], destination["waiting_events"]) == ("acknowledged", 27, 0)
    assert "error" not in rsyslog.log  # as it logs when a session ends without a farewell


def test_messages_that_imrelp_or_sshd_lose_are_sent_again_until_they_are_acknowledged(
    tmp_path: Path, sshd: Sshd, rsyslog: Rsyslog
) -> None:
    """As imrelp acknowledges messages in its memory, it is stopped, which writes them; sshd is killed."""
    router = Router(tmp_path, sshd, rsyslog.port, protocol="relp")
    router.audit_log.write_bytes(closed(generate(RECORDS)))
    expected = serials(router.audit_log.read_bytes())
    with router.start() as relay:
        wait_until(
            lambda: rsyslog.output.exists() and rsyslog.output.stat().st_size > 1 << 20, 60, "the first megabyte"
        )
        relay.suspend()  # so that both are lost before it is done
        rsyslog.stop()
        rsyslog.start()
        sshd.kill()
        sshd.start()
        os.kill(relay.pid, signal.SIGCONT)
        wait_until(lambda: delivered(router) > len(expected), 60, lambda: relay.log)
        relay.stop()
        assert f"lost 127.0.0.1:{router.local_port}" in relay.log
    wait_until(lambda: arrived(rsyslog) >= expected, 60, "imrelp's memory on its disk")
    assert arrived(rsyslog) == expected


def arrived(rsyslog: Rsyslog) -> set[int]:
    return serials(b"\n".join(audit_events(rsyslog.messages())))


def test_into_relay_receive_nothing_is_lost_or_archived_twice(tmp_path: Path) -> None:
    """First sshd and its sessions are killed once a tenth has arrived, and then the receiver."""
    receiver = Receiver(tmp_path / "server")
    with Sshd() as sshd:
        router = Router(tmp_path, sshd, receiver.port, protocol="relp")
        router.audit_log.write_bytes(closed(generate(RECORDS)))
        expected = serials(router.audit_log.read_bytes())
        with router.start() as relay:
            with receiver.running() as first:
                receiver.wait_for_messages(RECORDS // 10)
                sshd.kill()
                sshd.start()
                receiver.wait_for_messages(RECORDS // 4)
                first.kill()
            with receiver.running():
                receiver.wait_for_messages(len(expected))
            relay.stop()
    assert len(receiver.messages()) == len(set(identities(receiver.messages()))) == len(expected)
    assert serials(b"\n".join(receiver.messages())) == expected


def test_omrelps_messages_are_archived_byte_for_byte(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "server")
    texts = [b"x", b"a" * 8192, b"b" * 65536, b"line\nline", b"\xff\xfe\x80 and \x1d\x01\r\t\x7f"]
    messages = [b"<13>1 2003-10-11T22:14:15.003Z router app - - - " + text for text in texts]
    with receiver.running(), RsyslogForwarder(receiver.port, "relp") as rsyslog:
        with socket.create_connection((LOOPBACK, rsyslog.port)) as program:
            program.sendall(b"".join(framing.octet_counted(message) for message in messages))
        wait_until(lambda: len(foreign(receiver)) >= len(messages), 60, lambda: rsyslog.log)
        assert foreign(receiver) == messages


def foreign(receiver: Receiver) -> list[bytes]:
    return [message for message in archived(receiver.archive) if b" router app " in message]
