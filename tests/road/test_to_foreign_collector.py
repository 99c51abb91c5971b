"""`relay run` through OpenSSH's sshd into rsyslog's imtcp: foreign programs at every other point."""

import re
from pathlib import Path

from harness.openssh import Sshd
from harness.relay import SEED, Router, audit_events, nothing_waits
from harness.rsyslog import Rsyslog
from harness.waiting import wait_until

GOLDEN = Path(__file__).parent.parent / "events" / "audit" / "golden"
IDENTITY = re.compile(rb' relayRun="([0-9a-f]{16})" relaySeq="(\d+)"')


def collected(rsyslog: Rsyslog, events: int) -> list[bytes]:
    """The audit events that rsyslog has, once there are so many."""
    wait_until(lambda: len(audit_events(rsyslog.messages())) >= events, 60, lambda: f"{events} in {rsyslog.messages()}")
    return audit_events(rsyslog.messages())


def golden() -> list[bytes]:
    """The 26 golden messages, without their identity."""
    return [IDENTITY.sub(b"", path.read_bytes()) for path in sorted(GOLDEN.glob("event-*.syslog"))]


def test_the_golden_events_reach_rsyslog_byte_for_byte(tmp_path: Path, sshd: Sshd, rsyslog: Rsyslog) -> None:
    router = Router(tmp_path, sshd, rsyslog.port)
    router.audit_log.write_bytes(SEED.read_bytes())

    done = router.drain()

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    messages = collected(rsyslog, 26)
    identities = [IDENTITY.findall(message) for message in messages]
    assert sorted(IDENTITY.sub(b"", message) for message in messages) == sorted(golden())
    assert [[number for _, number in found] for found in identities] == [[b"%d" % n] for n in range(1, 27)]
    assert len({run for found in identities for run, _ in found}) == 1


def test_proven_events_are_not_sent_again_and_later_ones_are_sent(tmp_path: Path, sshd: Sshd, rsyslog: Rsyslog) -> None:
    router = Router(tmp_path, sshd, rsyslog.port)
    lines = SEED.read_bytes().splitlines(keepends=True)
    router.audit_log.write_bytes(b"".join(lines[:10]))
    assert router.drain().returncode == 0
    assert len(collected(rsyslog, 8)) == 8
    with router.audit_log.open("ab") as log:
        log.write(b"".join(lines[10:]))
    assert router.drain().returncode == 0
    assert sorted(IDENTITY.sub(b"", message) for message in collected(rsyslog, 26)) == sorted(golden())
    assert router.drain().returncode == 0
    assert len(audit_events(rsyslog.messages())) == 26
    # Each of the three runs has its opening.
    destination = router.status()["destinations"][0]
    assert (destination["delivered"], destination["waiting_events"], destination["proof"]) == (26 + 3, 0, "drained")


def test_a_malformed_line_is_marked_and_forwarded_not_dropped(tmp_path: Path, sshd: Sshd, rsyslog: Rsyslog) -> None:
    router = Router(tmp_path, sshd, rsyslog.port)
    first = SEED.read_bytes().splitlines()[0]
    router.audit_log.write_bytes(first + b"\nthis is no \xff record ]\n")
    assert router.drain().returncode == 0
    messages = collected(rsyslog, 2)
    assert messages[1].endswith(b"] this is no \xff record ]")
    assert b' malformed="1"' in messages[1]
    assert b"malformed" not in messages[0]


def test_a_running_relay_delivers_what_is_written_and_rotated_and_stops_cleanly(
    tmp_path: Path, sshd: Sshd, rsyslog: Rsyslog
) -> None:
    router = Router(tmp_path, sshd, rsyslog.port)
    lines = [line for line in SEED.read_bytes().splitlines(keepends=True) if b":2340)" not in line]
    router.audit_log.touch()
    with router.start() as relay:
        with router.audit_log.open("ab") as log:
            log.write(b"".join(lines[:12]))
        collected(rsyslog, 12)
        router.audit_log.rename(tmp_path / "audit.log.1")
        router.audit_log.write_bytes(b"".join(lines[12:]))
        collected(rsyslog, 25)
        wait_until(lambda: nothing_waits(router.state), 60, "the last proof")
        assert router.status()["destinations"][0]["delivered"] == 25 + 1
        assert router.status()["pid"] == relay.pid
        relay.stop()
        assert relay.complaints == []
    assert router.status()["pid"] is None
    assert len(audit_events(rsyslog.messages())) == 25


def test_non_transparent_framing_carries_record_by_record(tmp_path: Path, sshd: Sshd, rsyslog: Rsyslog) -> None:
    router = Router(tmp_path, sshd, rsyslog.port, framing="non-transparent")
    router.audit_log.write_bytes(SEED.read_bytes())
    assert router.drain().returncode == 0
    messages = collected(rsyslog, 28)
    records = {message.partition(b"] type=")[2] for message in messages}
    assert records == {line.removeprefix(b"type=") for line in SEED.read_bytes().splitlines()}
