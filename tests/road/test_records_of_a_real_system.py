"""Every record that the real kernel and the real auditd make of a busy session is read as auparse reads it.

`RELAY_AUDIT_SECONDS=3600` goes on for an hour; by default it is one round of each log format.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness.auparse import assert_read_as_auparse_reads
from harness.kernel_auditd import KernelAuditd, may_audit
from harness.waiting import wait_until

from relay.audit.assembly import Assembler, AuditEvent
from relay.audit.record import parse

SESSION = "auid=61234"
USE = Path(__file__).parents[1] / "harness" / "audited_use.py"
SECONDS = float(os.environ.get("RELAY_AUDIT_SECONDS", "0"))


def audited(folder: Path, log_format: str) -> list[bytes]:
    """Use the machine in a session in which every system call is audited; what auditd then writes."""
    with KernelAuditd(log_format=log_format) as auditd:
        try:
            auditd.control("-b", "65536")
            auditd.control("-a", "always,exit", "-F", "arch=b64", "-S", "all", "-F", SESSION, "-k", "all")
            subprocess.run([sys.executable, str(USE), "0", str(folder)], check=True, timeout=60)
            wait_until(lambda: ended(auditd), 60, "the last record")
            return auditd.log_file.read_bytes().split(b"\n")[:-1]
        finally:
            auditd.control("-D")
            auditd.control("-b", "64")


def ended(auditd: KernelAuditd) -> bool:
    """Have a last record written; the kernel may drop one where the machine is busy, so it is asked for again."""
    auditd.control("-m", "it's the end")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if b"it's the end" in auditd.log_file.read_bytes()[-65536:]:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("log_format", ["RAW", "ENRICHED"])
def test_every_record_is_read_as_auparse_reads_it(tmp_path: Path, log_format: str) -> None:
    until = time.monotonic() + SECONDS / 2
    while may_audit():  # else there is nothing to be had: only root may, and not in every container
        lines = audited(tmp_path, log_format)
        assert len(lines) > 1000
        assert_read_as_auparse_reads(lines)
        assert_each_serial_is_one_event(lines)
        if time.monotonic() > until:
            return


def assert_each_serial_is_one_event(lines: list[bytes]) -> None:
    assembler: Assembler[None] = Assembler()
    events: list[AuditEvent] = []
    keys = set()
    for line in lines:
        record = parse(line)
        assert record is not None
        keys.add(record.key)
        events += assembler.feed(record, None, 0.0)
    events += assembler.flush()
    assert not [event for event in events if event.late]
    assert len(events) == len(keys)
    assert sum(len(event.records) for event in events) == len(lines)
