"""The state of the kernel's audit subsystem, as `auditctl -s` tells it: AUDIT_GET over netlink (linux/audit.h).

The answer needs CAP_AUDIT_CONTROL in the machine's first user and process namespaces; without it, and in a container
as a rule, PermissionRefusedError. A kernel without audit, or one that does not answer within a second:
UnavailableError. Nothing is changed.

That second is no ceiling. While the backlog of the kernel's audit is full, the kernel makes whoever speaks to it wait
in the call that sends: 2.1 to 2.8 s were seen with a frozen auditd, and up to `backlog_wait_time` (60 s by default) are
possible. So what is asked again and again is asked by way of `StandingStatus`.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from relay.errors import PermissionRefusedError, ProtocolError, RelayError, UnavailableError
from relay.program.watch.enquiry import SOON_S, Enquiry

WHAT: Final = "the kernel's audit subsystem"
_NETLINK_AUDIT: Final = 9  # linux/netlink.h
_AUDIT_GET: Final = 1000  # linux/audit.h
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, sender's port
_ERROR: Final = struct.Struct("=i")
_STATUS: Final = struct.Struct("=8I")  # struct audit_status up to `backlog`; kernels only ever append to it
_PATIENCE_S: Final = 1.0
_FIRST_S: Final = 3.0
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


class StandingStatus:
    """The kernel's last answer, which stands until the next is there; for one thread at a time."""

    def __init__(self, ask: Callable[[], KernelAudit] = read_status) -> None:
        self._ask = ask
        self._enquiry: Enquiry[KernelAudit] = Enquiry()
        self._known: KernelAudit | None = None

    def read(self) -> KernelAudit:
        """Give it, after a quarter of a second at most, 3 s the first time; UnavailableError while there is none."""
        answer = self._enquiry.ask(self._ask, patience=SOON_S if self._known else _FIRST_S)
        self._known = answer or self._known
        if self._known is None:
            raise UnavailableError(WHAT, f"it has not answered for {_FIRST_S:g} s")
        return self._known


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
