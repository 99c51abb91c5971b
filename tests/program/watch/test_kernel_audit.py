"""The kernel's own answer, against auditctl's; it is machine-wide, so nothing is changed here."""

import fcntl
import re
import struct
import subprocess
import sys
import threading

import pytest
from harness.debian import AUDITD, fetch
from harness.kernel_auditd import LOCK
from harness.waiting import wait_until

from relay.errors import PermissionRefusedError, ProtocolError, RelayError, UnavailableError
from relay.program.watch import kernel_audit
from relay.program.watch.kernel_audit import WHAT, KernelAudit, StandingStatus, parse_answer, read_status

CAPTURED = bytes.fromhex(
    "3c000000e80300000100000000000000"
    "00000000010000000100000039300000000000000020000007000000030000007f000000983a000000000000"
)
"""What a kernel 6 answered, with the numbers of a busy machine in their places."""


def refused(number: int) -> bytes:
    return struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -number) + bytes(16)


def test_the_kernels_answer_is_read() -> None:
    assert parse_answer(CAPTURED) == KernelAudit(enabled=1, pid=12345, lost=7, backlog=3, backlog_limit=8192)


def test_an_answer_that_is_cut_anywhere_is_an_error() -> None:
    for length in range(48):
        with pytest.raises(ProtocolError):
            parse_answer(CAPTURED[:length])


@pytest.mark.parametrize("number", [1, 13, 111])
def test_a_kernel_that_forbids_it_says_what_is_missing(number: int) -> None:
    with pytest.raises(PermissionRefusedError, match="CAP_AUDIT_CONTROL"):
        parse_answer(refused(number))


def test_a_kernel_without_audit_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="Protocol not supported"):
        parse_answer(refused(93))


@pytest.mark.timeout(300)  # whoever has the machine's audit for himself is waited for
def test_it_agrees_with_auditctl() -> None:
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
    told = dict(re.findall(r"^(\w+) (\d+)$", done.stdout, re.MULTILINE))
    assert status.enabled == int(told["enabled"])
    assert status.backlog_limit == int(told["backlog_limit"])
    assert status.lost >= 0


def test_without_the_right_it_is_refused() -> None:
    """In a user namespace of its own even root may not ask; by its path, for PATH has the stubs alone."""
    program = "from relay.program.watch.kernel_audit import read_status; read_status()"
    done = subprocess.run(
        ["/usr/bin/unshare", "--user", "--map-root-user", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionRefusedError" in done.stderr


def test_the_last_answer_stands_while_the_kernel_makes_its_asker_wait() -> None:
    first, second = KernelAudit(1, 4711, 0, 0, 64), KernelAudit(1, 4711, 5, 65, 64)
    answers, free = iter((first, second)), threading.Event()

    def ask() -> KernelAudit:
        answer = next(answers)
        assert answer is first or free.wait(30)
        return answer

    status = StandingStatus(ask)
    assert status.read() == first
    assert status.read() == first
    free.set()
    wait_until(lambda: status.read() == second, 10, "the second answer")


def test_a_refusal_is_raised_and_a_later_answer_taken() -> None:
    known = KernelAudit(1, 4711, 0, 0, 64)
    answers: list[KernelAudit | RelayError] = [known, PermissionRefusedError(WHAT, "its state may not be read")]

    def ask() -> KernelAudit:
        answer = answers.pop()
        if isinstance(answer, RelayError):
            raise answer
        return answer

    status = StandingStatus(ask)
    with pytest.raises(PermissionRefusedError):
        status.read()
    assert status.read() == known


def test_a_first_answer_that_does_not_come_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_audit, "_FIRST_S", 0.01)
    never = threading.Event()

    def ask() -> KernelAudit:
        never.wait()
        raise AssertionError

    with pytest.raises(UnavailableError, match="has not answered"):
        StandingStatus(ask).read()
    never.set()
