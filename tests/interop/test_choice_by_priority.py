"""`relay run` into collectors of every protocol: of what lies in the spool they get what they are to get by priority.

What the names mean rsyslog itself says.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.auditd import Auditd
from harness.openssh import Sshd
from harness.relay import SEED, Router, audit_events
from harness.rsyslog import Rsyslog, RsyslogByName
from harness.waiting import wait_until
from interop.messages import foreign
from program.history import spools

from relay.syslog.priority import FACILITIES, SEVERITIES

REST = b"1 2003-10-11T22:14:15.003Z router app - - - text"
EVERY = [b"<%d>%b" % (value, REST) for value in range(192)]
NONE = b"no priority, so user.notice"
CHOICE: dict[str, object] = {"facilities": ["user", "local7"], "severity": "warning"}
CHOSEN = [b"<%d>%b" % (facility * 8 + severity, REST) for facility in (1, 23) for severity in range(5)]
EVENTS = 26  # in SEED


@pytest.fixture
def deliver(tmp_path: Path, sshd: Sshd) -> Callable[..., dict[str, Any]]:
    """Runs relay until the cursor of a server with these keys has passed everything; returns its status."""

    def run(port: int, /, log: bytes = b"", **keys: object) -> dict[str, Any]:
        spools.filled(tmp_path / "state", [spools.foreign(message) for message in (*EVERY, NONE)], segment_size=1 << 20)
        router = Router(tmp_path, sshd, port)
        router.server |= keys
        router.write_configuration()
        router.audit_log.write_bytes(log)
        done = router.drain()
        assert done.returncode == 0, done.stderr
        status = router.status()["destinations"][0]
        assert isinstance(status, dict)
        return status

    return run


@pytest.mark.parametrize(
    ("module", "keys", "proof"),
    [
        ("imtcp", {}, "drained"),
        ("imtcp", {"framing": "non-transparent"}, "drained"),
        ("imtcp", {"framing": "non-transparent", "trailer": "NUL"}, "drained"),
        ("imrelp", {"protocol": "relp"}, "acknowledged"),
        ("imudp", {"transport": "udp"}, "unproven"),
    ],
)
def test_a_server_gets_the_messages_of_its_priorities(
    deliver: Callable[..., dict[str, Any]], module: Any, keys: dict[str, object], proof: str
) -> None:
    with Rsyslog(module, nul_ends_lines="trailer" in keys) as rsyslog:
        direct = {"port": rsyslog.port} if module == "imudp" else {}
        status = deliver(rsyslog.port, **CHOICE, **keys, **direct)
        assert (status["proof"], status["waiting_events"]) == (proof, 0)
        wait_until(lambda: len(foreign(rsyslog.messages())) >= len(CHOSEN), 60, lambda: repr(rsyslog.messages()))
        everything = rsyslog.wait_for_messages(status["delivered"])
        assert foreign(everything) == CHOSEN
        own = len(everything) - len(CHOSEN)
        assert own > 0
        assert status["delivered"] == len(CHOSEN) + own


def test_a_message_without_a_priority_is_of_user_notice(deliver: Callable[..., dict[str, Any]]) -> None:
    with Rsyslog("imtcp") as rsyslog:
        deliver(rsyslog.port, facilities=["user"], severity="notice")
        expected = [message for message in EVERY if message.startswith(tuple(b"<%d>" % n for n in range(8, 14)))]
        wait_until(lambda: len(foreign(rsyslog.messages())) > len(expected), 60, lambda: repr(rsyslog.messages()))
        assert foreign(rsyslog.messages()) == [*expected, b"<13>" + NONE]


def test_an_auditd_gets_the_records_of_events_that_are_severe_enough(deliver: Callable[..., dict[str, Any]]) -> None:
    """Of SEED the failures and denials; of the other messages, only one of relay's own has the facility audit."""
    with Auditd() as auditd:
        status = deliver(auditd.port, SEED.read_bytes(), protocol="auditd", facilities=["audit"], severity="warning")
        assert (status["proof"], status["waiting_events"]) == ("acknowledged", 0)
        kept = [record for record in auditd.records() if b' event_type="relay"' not in record]
    records = [record for record in kept if b"type=TRUSTED_APP " not in record]
    assert 0 < len(records) < len(SEED.read_bytes().splitlines())
    assert all(record.removeprefix(b"node=combo1 ") in SEED.read_bytes() for record in records)
    assert len(kept) - len(records) == SEVERITIES.index("warning") + 1


def test_the_cursor_of_a_server_that_selects_nothing_passes_everything(
    deliver: Callable[..., dict[str, Any]],
) -> None:
    with Rsyslog("imtcp") as rsyslog:
        status = deliver(rsyslog.port, SEED.read_bytes(), facilities=["uucp"], severity="emerg", types=["audit"])
        assert status["waiting_events"] == 0
        everything = rsyslog.wait_for_messages(status["delivered"])
        assert foreign(everything) == audit_events(everything) == []
        assert status["delivered"] == len(everything)


def test_audit_events_are_selected_by_their_own_priority(deliver: Callable[..., dict[str, Any]]) -> None:
    with Rsyslog("imtcp") as rsyslog:
        status = deliver(rsyslog.port, SEED.read_bytes(), facilities=["audit"], types=["audit"])
        assert len(audit_events(rsyslog.wait_for_messages(status["delivered"]))) == EVENTS


def test_rsyslog_names_facilities_and_severities_as_relay_does(deliver: Callable[..., dict[str, Any]]) -> None:
    with RsyslogByName("imtcp") as rsyslog:
        deliver(rsyslog.port)
        wait_until(lambda: len(rsyslog.messages()) > len(EVERY) + 1, 60, lambda: repr(rsyslog.messages()))
        names = rsyslog.messages()
        first = names.index(b"kern.emerg")
        expected = [f"{facility}.{severity}".encode() for facility in FACILITIES for severity in SEVERITIES]
        assert names[first : first + len(EVERY) + 1] == [*expected, b"user.notice"]
