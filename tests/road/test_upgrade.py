"""A backlog that the version before wrote, in the spool's format 1, is delivered after the upgrade."""

import re
from pathlib import Path

from harness.former_spool import unpack_former_spool
from harness.openssh import Sshd
from harness.records import SEED, serials
from harness.relay import Router, audit_events
from harness.rsyslog import Rsyslog

_IDENTITY = re.compile(rb' relayRun="([0-9a-f]{16})" relaySeq="(\d+)"')
PROVEN = 6
"""Audit events before the cursor."""
FORMER_RUNS = (b"1" * 16, b"2" * 16)


def test_a_backlog_of_format_1_is_delivered_and_what_follows_is_of_format_2(
    tmp_path: Path, sshd: Sshd, rsyslog: Rsyslog
) -> None:
    unpack_former_spool(tmp_path)
    router = Router(tmp_path, sshd, rsyslog.port, name="collector")
    router.audit_log.write_bytes(SEED.read_bytes())  # the source goes on behind the records that were spooled
    assert router.run("spool", "verify").returncode == 65  # for its torn tail alone
    done = router.drain()
    assert (done.returncode, done.stdout) == (0, "")
    assert len(done.stderr.splitlines()) == 1
    assert "a write was cut short: 291 octets" in done.stderr
    assert router.run("spool", "verify").returncode == 0

    messages = rsyslog.wait_for_messages(26 - PROVEN + 6)
    events = audit_events(messages)
    assert len(events) == 26 - PROVEN
    others = [re.findall(rb' type="(system|traffic)"\] number (\d)', message) for message in messages]
    expected = [(b"system", b"2"), (b"system", b"3"), (b"traffic", b"1"), (b"traffic", b"2"), (b"traffic", b"3")]
    assert sorted(one for found in others for one in found) == expected
    assert b"<13>no priority here" in messages
    found = [_IDENTITY.findall(message) for message in events]
    former = [(run, int(number)) for ((run, number),) in found if run in FORMER_RUNS]
    assert former == [(FORMER_RUNS[0], n) for n in range(7, 13)] + [(FORMER_RUNS[1], n) for n in range(1, 7)]
    assert serials(b"\n".join(events)) == set(sorted(serials(SEED.read_bytes()))[PROVEN:])
    assert router.status()["destinations"][0]["waiting_events"] == 0
