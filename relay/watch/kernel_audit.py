"""The state of the kernel's audit subsystem, as `auditctl -s` tells it: AUDIT_GET over netlink (linux/audit.h).

The answer needs CAP_AUDIT_CONTROL in the machine's first user and process namespaces; without it, and in a container
as a rule, PermissionRefusedError. A kernel without audit, or one that does not answer within a second:
UnavailableError. Blocks for at most that second. Nothing is changed.
"""

import errno
import os
import socket
import struct
from typing import Final, NamedTuple

from relay.errors import PermissionRefusedError, ProtocolError, RelayError, UnavailableError

WHAT: Final = "the kernel's audit subsystem"
_NETLINK_AUDIT: Final = 9  # linux/netlink.h
_AUDIT_GET: Final = 1000  # linux/audit.h
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, sender's port
_ERROR: Final = struct.Struct("=i")
_STATUS: Final = struct.Struct("=8I")  # struct audit_status up to `backlog`; kernels only ever append to it
_PATIENCE_S: Final = 1.0
_LARGEST: Final = 8192
_FORBIDDEN: Final = frozenset({errno.EPERM, errno.EACCES, errno.ECONNREFUSED})
"""ECONNREFUSED is what a user namespace of its own is answered."""


class KernelAudit(NamedTuple):
    """What the kernel tells of its audit."""

    enabled: int
    """0: off; 1: on; 2: on, and locked until the next boot."""
    pid: int
    """The audit daemon's; 0: none."""
    lost: int
    """Records that were dropped since the boot, or since somebody set the counter to zero."""
    backlog: int
    """Records that wait for the daemon."""
    backlog_limit: int


def read_status() -> KernelAudit:
    """Ask the kernel."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_AUDIT) as channel:
            channel.settimeout(_PATIENCE_S)
            channel.send(_HEADER.pack(_HEADER.size, _AUDIT_GET, _NLM_F_REQUEST, 1, 0))
            return parse_answer(channel.recv(_LARGEST))
    except OSError as error:
        raise _refusal(error.errno or errno.ETIMEDOUT) from error


def parse_answer(data: bytes) -> KernelAudit:
    """Read the netlink message that answers AUDIT_GET."""
    if len(data) >= _HEADER.size + _ERROR.size:
        _, kind, *_ = _HEADER.unpack_from(data)
        if kind == _NLMSG_ERROR:
            raise _refusal(-_ERROR.unpack_from(data, _HEADER.size)[0])
        if kind == _AUDIT_GET and len(data) >= _HEADER.size + _STATUS.size:
            _, enabled, _, pid, _, backlog_limit, lost, backlog = _STATUS.unpack_from(data, _HEADER.size)
            return KernelAudit(enabled, pid, lost, backlog, backlog_limit)
    raise ProtocolError(WHAT, f"an answer of {len(data)} octets that is no audit status")


def _refusal(number: int) -> RelayError:
    if number in _FORBIDDEN:
        remedy = "give relay CAP_AUDIT_CONTROL, as deploy/README.md tells"
        return PermissionRefusedError(WHAT, "its state may not be read", remedy)
    return UnavailableError(WHAT, os.strerror(number))
