"""Records that the real kernel drops are reported as a gap; which configurations watch for that."""

import asyncio
import contextlib
import subprocess
from typing import Any

import pytest
from harness.kernel_auditd import KernelAuditd, may_audit
from harness.waiting import wait_until
from source.log_writing import Taken

from relay.program.forwarder import inputs_of
from relay.program.watch.audit_trail.kernel_audit import read_status
from relay.source.auditd.kernel_lost import KernelLost
from relay.spool.losses.gap import reported_gap
from relay.values.configuration.settings import Settings

# Whoever has the machine's audit for himself (`kernel_auditd.LOCK`) is waited for, which may be a minute.
pytestmark = pytest.mark.timeout(300)


def watch_of(**audit: Any) -> KernelLost | None:
    inputs = inputs_of(Settings(source=({"name": "audit"},), audit=audit))
    return next((each for each in inputs if isinstance(each, KernelLost)), None)


def test_the_kernels_count_is_watched_with_a_source_that_has_this_machines_audit_trail() -> None:
    assert watch_of() is not None
    assert watch_of(watch_auditd="never") is None
    assert inputs_of(Settings()) == []


@pytest.fixture
def kernel_may_be_used() -> bool:
    return may_audit()


def test_records_that_the_kernel_drops_are_reported_once_as_a_gap(kernel_may_be_used: bool) -> None:
    if not kernel_may_be_used:
        return  # then all there is to see is that it says so (test_kernel_lost in tests/source)
    with KernelAuditd() as auditd:
        before = look(None)
        try:
            auditd.control("--backlog_wait_time", "0")
            auditd.control("-b", "1")
            auditd.suspend()
            wait_until(lambda: dropped(auditd) > 3, 60, "the kernel drops records")
            after, lost = at_one_moment(before)
        finally:
            auditd.resume()
            auditd.control("-b", "64")
            auditd.control("--backlog_wait_time", "15000")
            auditd.control("--reset-lost")
    gaps = [reported_gap(event.head + event.tail) for event in after.events]
    assert [gap.events for gap in gaps if gap] == [lost - sum(reported_before(before))]


def dropped(auditd: KernelAuditd) -> int:
    """Send a record, and count what was dropped so far."""
    with contextlib.suppress(subprocess.CalledProcessError):  # the sender notices it too
        auditd.control("-m", "too much")
    return read_status().lost


def at_one_moment(before: Taken) -> tuple[Taken, int]:
    """The records reported since then, and the kernel's count: it may drop records for other reasons, too."""
    found: list[tuple[Taken, int]] = []

    def is_one() -> bool:
        lost = read_status().lost
        found.append((look(before), lost))
        return lost == read_status().lost

    wait_until(is_one, 60, "the kernel's count stays the same")
    return found[-1]


def look(earlier: Taken | None) -> Taken:
    taken = Taken()
    watch = watch_of()
    assert watch is not None
    asyncio.run(watch.run(taken.submit, earlier.position if earlier else None, drain=True))
    return taken


def reported_before(taken: Taken) -> list[int]:
    return [gap.events for event in taken.events if (gap := reported_gap(event.head + event.tail))]
