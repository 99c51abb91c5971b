"""The kernel's audit subsystem: its status, as `auditctl -s` shows it, and records that relay sends through it.

Reading the status changes nothing. It needs CAP_AUDIT_CONTROL, sending a record needs CAP_AUDIT_WRITE; the errors are
those of `relay.system.netlink`. The audit daemon writes relay's record as
`type=USER msg=audit(…): pid=… uid=… … msg='op=relay-canary id=TOKEN res=success'`. That the kernel accepted a record
does not prove that a daemon received it.
"""

import struct
from typing import Final, NamedTuple

from relay.errors import ProtocolError
from relay.system.netlink import AuditRequest

STATUS: Final = AuditRequest(what="the kernel's audit subsystem", type=1000, capability="CAP_AUDIT_CONTROL")
"""AUDIT_GET, linux/audit.h."""
TEST_RECORD: Final = AuditRequest(
    what="a test record through the kernel's audit", type=1005, capability="CAP_AUDIT_WRITE", acknowledged=True
)
"""AUDIT_USER, linux/audit.h."""
_STATUS: Final = struct.Struct("=8I")  # struct audit_status up to `backlog`; kernels only ever append to it


class KernelAudit(NamedTuple):
    """The status of the kernel's audit."""

    enabled: int
    """0: off; 1: on; 2: on, and locked until the next boot."""
    pid: int
    """The audit daemon's; 0: none."""
    lost: int
    """Records that were dropped since the boot, or since the counter was last reset."""
    backlog: int
    """Records that wait for the daemon."""
    backlog_limit: int


def read_status() -> KernelAudit:
    """Ask the kernel."""
    return parse_status(STATUS.send())


def parse_status(body: bytes) -> KernelAudit:
    """Parse the body of the answer to AUDIT_GET; ProtocolError when it is too short."""
    if len(body) < _STATUS.size:
        raise ProtocolError(STATUS.what, f"{len(body)} octets are not an audit status")
    _, enabled, _, pid, _, backlog_limit, lost, backlog = _STATUS.unpack_from(body)
    return KernelAudit(enabled, pid, lost, backlog, backlog_limit)


def canary_text(token: str) -> bytes:
    """The text that the record with `token` contains, and no other record does."""
    return f"op=relay-canary id={token} res=success".encode()


def send_canary(token: str) -> None:
    """Send a record; returns when the kernel has accepted it."""
    TEST_RECORD.send(canary_text(token) + b"\0")
