"""The kernel's own answer, against auditctl's; it is machine-wide, so nothing is changed here."""

import re
import struct
import subprocess
import sys

import pytest
from harness.debian import AUDITD, fetch

from relay.errors import PermissionRefusedError, ProtocolError, UnavailableError
from relay.watch.kernel_audit import KernelAudit, parse_answer, read_status

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


def test_it_agrees_with_auditctl() -> None:
    root = fetch(AUDITD)
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
    program = "from relay.watch.kernel_audit import read_status; read_status()"
    done = subprocess.run(
        ["/usr/bin/unshare", "--user", "--map-root-user", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionRefusedError" in done.stderr
