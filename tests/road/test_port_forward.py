"""The local port of `relay run`, used by rsyslog beside relay's own delivery, all the way into a foreign collector."""

import os
import socket
from typing import Any

import pytest
from harness.openssh import Sshd
from harness.ports import LOOPBACK, listens
from harness.relay import SEED, Router, nothing_waits
from harness.rsyslog import Rsyslog, RsyslogForwarder
from harness.waiting import wait_until

_PROGRAM = b" program - - - "


@pytest.fixture
def router(router: Router) -> Router:
    router.audit_log.write_bytes(SEED.read_bytes())
    return router


def _port_forwarding(router: Router) -> dict[str, Any]:
    """Its part of `relay status`."""
    (part,) = (each for each in router.live()["parts"] if each["name"].startswith("port-forwarding"))
    assert isinstance(part, dict)
    return part


def test_a_local_rsyslog_and_relay_itself_reach_the_collector_by_sessions_of_their_own(
    router: Router, sshd: Sshd, rsyslog: Rsyslog
) -> None:
    messages = [b"<110>1 - h%smessage %d" % (_PROGRAM, number) for number in range(1000)]
    with router.start() as relay:
        wait_until(lambda: listens(router.local_port), 60, lambda: relay.log)
        with (
            RsyslogForwarder(router.local_port) as program,
            socket.create_connection((program.host, program.port)) as sender,
        ):
            sender.sendall(b"".join(b"%d %s" % (len(message), message) for message in messages))
            collected = rsyslog.wait_for_messages(1000 + 26)
        wait_until(lambda: nothing_waits(router.state), 60, "the last proof")
        assert _port_forwarding(router)["state"] == "listening"
        assert [message for message in collected if _PROGRAM in message] == messages
        assert router.status()["destinations"][0]["delivered"] == 27, "what a local program sends is not relay's"
        assert sshd.log.count("Accepted publickey") == 2
        relay.stop()
        assert relay.complaints == []
    assert not listens(router.local_port)


def test_a_local_port_in_use_is_a_warning_with_its_owner_and_relay_still_delivers(
    router: Router, rsyslog: Rsyslog
) -> None:
    with socket.create_server((LOOPBACK, router.local_port)), router.start() as relay:
        rsyslog.wait_for_messages(26)
        relay.wait_for_log("taken by")
        assert f"port-forwarding {LOOPBACK}:{router.local_port}: local port" in relay.log
        assert f"(process {os.getpid()}); stop that program, or choose another local-port" in relay.log
        part = _port_forwarding(router)
        assert part["state"].startswith(("waiting", "connecting"))
        assert "taken by" in part["error"]
        relay.stop()
        assert "Traceback" not in relay.log


def test_a_drain_opens_no_local_port(router: Router, sshd: Sshd) -> None:
    with socket.create_server((LOOPBACK, router.local_port)):
        done = router.drain()
    assert (done.returncode, done.stderr) == (0, "")
    assert sshd.log.count("Accepted publickey") == 1
