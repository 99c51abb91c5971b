"""A record of relay's own, sent through the kernel's audit: netlink(7), AUDIT_USER (linux/audit.h).

The audit daemon writes it as `type=USER msg=audit(…): pid=… uid=… … msg='op=relay-canary id=TOKEN res=success'`. It
needs CAP_AUDIT_WRITE in the machine's first user namespace; without it PermissionRefusedError, for any other refusal
UnavailableError. That the kernel took it does not say that a daemon got it. Blocks for a second at most, but while the
backlog of the kernel's audit is full for as long as the kernel wants (`kernel_audit`).
"""

import errno
import os
import socket
import struct
from typing import Final

from relay.errors import PermissionRefusedError, RelayError, UnavailableError

WHAT: Final = "a test record through the kernel's audit"
_NETLINK_AUDIT: Final = 9  # linux/netlink.h
_AUDIT_USER: Final = 1005  # linux/audit.h
_NLM_F_REQUEST: Final = 1
_NLM_F_ACK: Final = 4
_NLMSG_ERROR: Final = 2
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, sender's port
_ERROR: Final = struct.Struct("=i")
_PATIENCE_S: Final = 1.0
_LARGEST: Final = 8192
_FORBIDDEN: Final = frozenset({errno.EPERM, errno.EACCES, errno.ECONNREFUSED})
"""ECONNREFUSED is what a user namespace of its own is answered."""


def text(token: str) -> bytes:
    """What stands in the record, and in no other."""
    return f"op=relay-canary id={token} res=success".encode()


def send(token: str) -> None:
    """Send one; returns when the kernel has taken it."""
    body = text(token) + b"\0"
    head = _HEADER.pack(_HEADER.size + len(body), _AUDIT_USER, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_AUDIT) as channel:
            channel.settimeout(_PATIENCE_S)
            channel.send(head + body)
            answer = channel.recv(_LARGEST)
    except OSError as error:
        raise _refusal(error.errno or errno.ETIMEDOUT) from error
    number = refused(answer)
    if number:
        raise _refusal(number)


def refused(answer: bytes) -> int:
    """The errno in the kernel's answer; 0 when it took the record."""
    if len(answer) < _HEADER.size + _ERROR.size or _HEADER.unpack_from(answer)[1] != _NLMSG_ERROR:
        return errno.EPROTO
    return -int(_ERROR.unpack_from(answer, _HEADER.size)[0])


def _refusal(number: int) -> RelayError:
    if number in _FORBIDDEN:
        return PermissionRefusedError(
            WHAT, "it may not be sent", "give relay CAP_AUDIT_WRITE, as deploy/relay.service does"
        )
    return UnavailableError(WHAT, os.strerror(number))
