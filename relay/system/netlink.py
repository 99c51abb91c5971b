"""One request to the kernel's audit subsystem over netlink: netlink(7), linux/netlink.h, linux/audit.h.

The kernel answers only a process with the request's capability in the machine's first user and process namespaces; in
a container it usually refuses. Nothing is sent twice. An answer takes a second at most, unless the backlog of the
kernel's audit is full: then the kernel makes the sender wait in `send`. With a frozen auditd 2.1 to 2.8 s were seen,
and up to `backlog_wait_time` (60 s by default) are possible. Use a `BackgroundCall` for repeated requests.
"""

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from relay.errors import PermissionRefusedError, ProtocolError, RelayError, UnavailableError

_NETLINK_AUDIT: Final = 9  # linux/netlink.h
_NLM_F_REQUEST: Final = 1
_NLM_F_ACK: Final = 4
_NLMSG_ERROR: Final = 2
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, sender's port
_ERROR: Final = struct.Struct("=i")
_TIMEOUT_S: Final = 1.0
_LARGEST_ANSWER: Final = 8192
_FORBIDDEN: Final = frozenset({errno.EPERM, errno.EACCES, errno.ECONNREFUSED})
"""The kernel answers ECONNREFUSED to a process in another user namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """One type of request, with the words for its errors."""

    what: str
    type: int
    capability: str
    """The capability that the sender needs; capabilities(7)."""
    acknowledged: bool = False
    """Whether the kernel answers with an acknowledgement, and not with data."""

    def send(self, body: bytes = b"") -> bytes:
        """Send it with `body`, and return the body of the answer; empty for an acknowledgement.

        PermissionRefusedError without the capability, UnavailableError for any other refusal and without an answer in
        time, ProtocolError for an answer that cannot be parsed.
        """
        flags = _NLM_F_REQUEST | (_NLM_F_ACK if self.acknowledged else 0)
        header = _HEADER.pack(_HEADER.size + len(body), self.type, flags, 1, 0)
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_AUDIT) as channel:
                channel.settimeout(_TIMEOUT_S)
                channel.send(header + body)
                answer = channel.recv(_LARGEST_ANSWER)
        except OSError as error:
            raise self._refusal(error.errno or errno.ETIMEDOUT) from error
        return self.parse_answer(answer)

    def parse_answer(self, data: bytes) -> bytes:
        """The body of the netlink message `data`; the same errors as `send`."""
        if len(data) >= _HEADER.size + _ERROR.size:
            answer_type = _HEADER.unpack_from(data)[1]
            if answer_type == _NLMSG_ERROR:
                refusal = -int(_ERROR.unpack_from(data, _HEADER.size)[0])
                if refusal:
                    raise self._refusal(refusal)
                if self.acknowledged:
                    return b""
            elif answer_type == self.type and not self.acknowledged:
                return data[_HEADER.size :]
        raise ProtocolError(self.what, f"the kernel's answer of {len(data)} octets cannot be parsed")

    def _refusal(self, number: int) -> RelayError:
        if number in _FORBIDDEN:
            remedy = f"give relay {self.capability}, as deploy/relay.service does"
            return PermissionRefusedError(self.what, f"relay's process does not have {self.capability}", remedy)
        return UnavailableError(self.what, os.strerror(number))
