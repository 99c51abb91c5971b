"""Answers of the kernel to audit requests."""

import errno
import struct

import pytest

from relay.errors import PermissionRefusedError, ProtocolError, UnavailableError
from relay.system.netlink import AuditRequest

DATA = AuditRequest(what="the status", type=1000, capability="CAP_AUDIT_CONTROL")
ACKNOWLEDGED = AuditRequest(what="a record", type=1005, capability="CAP_AUDIT_WRITE", acknowledged=True)
REQUESTS = [DATA, ACKNOWLEDGED]


def error(number: int) -> bytes:
    """The kernel's answer NLMSG_ERROR."""
    return struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -number) + bytes(16)


def data(answer_type: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), answer_type, 0, 1, 0) + body


def test_an_answer_is_a_body_or_an_acknowledgement() -> None:
    assert DATA.parse_answer(data(1000, b"body")) == b"body"
    assert ACKNOWLEDGED.parse_answer(error(0)) == b""


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ECONNREFUSED])
def test_a_refusal_names_the_capability_that_is_missing(request_: AuditRequest, number: int) -> None:
    with pytest.raises(PermissionRefusedError, match=f"give relay {request_.capability}, as deploy/relay.service does"):
        request_.parse_answer(error(number))


@pytest.mark.parametrize("request_", REQUESTS)
def test_any_other_error_is_unavailable_with_its_text(request_: AuditRequest) -> None:
    with pytest.raises(UnavailableError, match="Protocol not supported"):
        request_.parse_answer(error(errno.EPROTONOSUPPORT))


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (DATA, error(0)),
        (DATA, data(1005, b"body")),
        (ACKNOWLEDGED, data(1005, b"body")),
        (DATA, data(1000, b"")),
        *((request_, answer) for request_ in REQUESTS for answer in (b"", b"short", error(0)[:19])),
    ],
)
def test_an_answer_of_another_kind_or_a_cut_one_is_an_error(request_: AuditRequest, answer: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot be parsed"):
        request_.parse_answer(answer)
