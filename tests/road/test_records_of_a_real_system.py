"""Every record that the real kernel and auditd write about a busy session is parsed as auparse parses it.

Two rule sets, each in both log formats: every system call, and all the rules that Debian's auditd has as examples
(STIG, PCI DSS, OSPP, NISPOM and the others) at once. `RELAY_AUDIT_SECONDS=3600` goes on for an hour, and
`-s` shows how many records of which types that were; by default it is one round each.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from harness.auparse import assert_read_as_auparse_reads
from harness.debian import AUDITD, fetch
from harness.kernel_auditd import KernelAuditd, may_audit
from harness.waiting import wait_until

from relay.events.audit.assembly import Assembler, AuditEvent
from relay.events.audit.record import parse

SESSION = "auid=61234"
USE = Path(__file__).parents[1] / "harness" / "audited_use.py"
SECONDS = float(os.environ.get("RELAY_AUDIT_SECONDS", "0"))
EVERY_CALL = f"-a always,exit -F arch=b64 -S all -F {SESSION} -k all\n"
ROUNDS = [(EVERY_CALL, 1000), ("", 300)]
"""Rules (none: Debian's), and the least number of records that a round has with them."""


def debians_rules() -> str:
    """Every rule among the examples of Debian's auditd. Settings are left out, because one may be a panic."""
    folder = "usr/share/doc/auditd/examples"
    examples = Path(fetch(AUDITD).file(f"{folder}/rules/README-rules", f"{folder}/audit-rules/README-rules")).parent
    lines = (line for file in sorted(examples.glob("[3-7]*.rules")) for line in file.read_text().splitlines())
    return "".join(f"{line}\n" for line in lines if line.startswith(("-a always,", "-w ")))


def audited(folder: Path, log_format: str, rules: str) -> list[bytes]:
    """Use the machine in a session that is audited by `rules`; returns what auditd writes."""
    with KernelAuditd(log_format=log_format) as auditd:
        try:
            auditd.control("-b", "65536")
            auditd.load(rules)
            subprocess.run([sys.executable, str(USE), "0", str(folder)], check=True, timeout=60)
            wait_until(lambda: ended(auditd), 60, "the last record")
            return auditd.log_file.read_bytes().split(b"\n")[:-1]
        finally:
            auditd.control("-D")
            auditd.control("-b", "64")


def ended(auditd: KernelAuditd) -> bool:
    """Cause a last record, repeatedly because the kernel of a busy machine may drop one."""
    auditd.control("-m", "it's the end")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if b"it's the end" in auditd.log_file.read_bytes()[-65536:]:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("log_format", ["RAW", "ENRICHED"])
@pytest.mark.parametrize(("rules", "least"), ROUNDS, ids=["every-call", "debian"])
def test_every_record_is_read_as_auparse_reads_it(tmp_path: Path, rules: str, least: int, log_format: str) -> None:
    until = time.monotonic() + SECONDS / 4
    types = Counter[bytes]()
    while may_audit():  # else there is nothing to be had: only root may, and not in every container
        lines = audited(tmp_path, log_format, rules or debians_rules())
        assert len(lines) > least
        types.update(line.split()[0].removeprefix(b"type=") for line in lines)
        assert_read_as_auparse_reads(lines)
        assert_each_serial_is_one_event(lines)
        if time.monotonic() > until:
            sys.stdout.write(f"{types.total()} records: {types.most_common()}\n")
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
