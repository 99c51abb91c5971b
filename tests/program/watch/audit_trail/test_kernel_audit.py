"""The kernel's audit status, compared with auditctl's; the kernel's audit is machine-wide, so nothing is changed."""

import fcntl
import re
import subprocess
import sys
import threading

import pytest
from harness.debian import AUDITD, fetch
from harness.kernel_auditd import LOCK
from harness.waiting import wait_until

from relay.errors import PermissionRefusedError, ProtocolError, RelayError, UnavailableError
from relay.program.watch.audit_trail.kernel_audit import STATUS, KernelAudit, parse_status, read_status
from relay.program.watch.audit_trail.machine import ThisMachine

CAPTURED = bytes.fromhex(
    "3c000000e80300000100000000000000"
    "00000000010000000100000039300000000000000020000007000000030000007f000000983a000000000000"
)
"""The answer of a kernel 6, with the numbers of a busy machine put in."""


def test_the_kernels_answer_is_parsed() -> None:
    status = parse_status(STATUS.parse_answer(CAPTURED))
    assert status == KernelAudit(enabled=1, pid=12345, lost=7, backlog=3, backlog_limit=8192)


def test_an_answer_that_is_cut_anywhere_is_an_error() -> None:
    for length in range(48):
        with pytest.raises(ProtocolError):
            parse_status(STATUS.parse_answer(CAPTURED[:length]))


@pytest.mark.timeout(300)  # it waits for a test that has the machine's audit for itself
def test_the_status_agrees_with_auditctl() -> None:
    root = fetch(AUDITD)
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # while nobody changes it
        done = subprocess.run(
            [root.file("sbin/auditctl"), "-s"], env=root.environment(), capture_output=True, text=True, check=False
        )
        try:
            status = read_status()
        except PermissionRefusedError:
            assert "Operation not permitted" in done.stderr
            return
    shown = dict(re.findall(r"^(\w+) (\d+)$", done.stdout, re.MULTILINE))
    assert status.enabled == int(shown["enabled"])
    assert status.backlog_limit == int(shown["backlog_limit"])
    assert status.lost >= 0


def test_without_the_capability_the_kernel_refuses() -> None:
    """In another user namespace not even root is allowed to ask. unshare has its path, as PATH has only the stubs."""
    program = "from relay.program.watch.audit_trail.kernel_audit import read_status; read_status()"
    done = subprocess.run(
        ["/usr/bin/unshare", "--user", "--map-root-user", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionRefusedError" in done.stderr


def test_the_latest_answer_is_returned_while_the_kernel_makes_its_caller_wait() -> None:
    first, second = KernelAudit(1, 4711, 0, 0, 64), KernelAudit(1, 4711, 5, 65, 64)
    answers, free = iter((first, second)), threading.Event()

    def ask() -> KernelAudit:
        answer = next(answers)
        assert answer is first or free.wait(30)
        return answer

    machine = ThisMachine(ask)
    assert machine.kernel() == first
    assert machine.kernel() == first
    free.set()
    wait_until(lambda: machine.kernel() == second, 60, "the second answer")


def test_a_refusal_is_raised_and_a_later_answer_returned() -> None:
    known = KernelAudit(1, 4711, 0, 0, 64)
    answers: list[KernelAudit | RelayError] = [known, PermissionRefusedError(STATUS.what, "permission denied")]

    def ask() -> KernelAudit:
        answer = answers.pop()
        if isinstance(answer, RelayError):
            raise answer
        return answer

    machine = ThisMachine(ask)
    with pytest.raises(PermissionRefusedError):
        machine.kernel()
    assert machine.kernel() == known


def test_without_a_first_answer_in_time_the_status_is_unavailable() -> None:
    never = threading.Event()

    def ask() -> KernelAudit:
        never.wait()
        raise AssertionError

    with pytest.raises(UnavailableError, match="no answer within"):
        ThisMachine(ask, first_timeout=0.01).kernel()
    never.set()
