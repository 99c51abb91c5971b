"""Foreign octets: the library rfc5424-logging-handler sends over a real socket, and relay decodes it."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rfc5424logging import Rfc5424SysLogHandler

from relay.syslog.framing import Decoder
from relay.syslog.rfc5424 import parse

FRAMING_OCTET_COUNTING, FRAMING_NON_TRANSPARENT = 1, 2  # the library's own numbers


@contextmanager
def handler(framing: int, received: list[bytes]) -> Iterator[logging.Logger]:
    """A logger whose handler sends to a loopback socket; its messages are decoded when the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = Rfc5424SysLogHandler(
            address=server.getsockname(),
            socktype=socket.SOCK_STREAM,
            framing=framing,
            hostname="router-1",
            appname="128T",
            procid=4711,
            structured_data={"sdid": {"router": 'a"b\\c]d', "city": "Zürich"}},
            enterprise_id=2636,
            utc_timestamp=True,
        )
        connection, _ = server.accept()
        logger = logging.Logger("rfc5424 test")  # noqa: LOG001 -- not to be found by any other test
        logger.addHandler(sender)
        with connection:
            connection.settimeout(60)
            yield logger
            sender.close()
            decoder = Decoder()
            while data := connection.recv(100):
                received += decoder.receive(data)
            assert decoder.finish() == []
            assert not decoder.partial


@pytest.mark.parametrize("framing", [FRAMING_NON_TRANSPARENT, FRAMING_OCTET_COUNTING])
def test_its_messages_are_read_as_intended(framing: int) -> None:
    received: list[bytes] = []
    with handler(framing, received) as logger:
        logger.error("audit trail of %s", "Zürich", extra={"msgid": "EVENT"})
        logger.info("second")
    first, second = map(parse, received)
    assert (first.facility, first.severity, second.severity) == (1, 3, 6)
    assert (first.hostname, first.app_name, first.procid) == (b"router-1", b"128T", b"4711")
    assert (first.msgid, second.msgid) == (b"EVENT", None)
    assert first.structured_data[0].id == b"sdid@2636"
    assert dict(first.structured_data[0].params) == {b"router": b'a"b\\c]d', b"city": "Zürich".encode()}
    assert first.declares_utf8
    assert first.msg == b"\xef\xbb\xbfaudit trail of " + "Zürich".encode()
    assert second.msg == b"\xef\xbb\xbfsecond"


@pytest.mark.parametrize(
    ("framing", "expected"),
    [
        (FRAMING_OCTET_COUNTING, b"one\ntwo\n<3>three"),
        (FRAMING_NON_TRANSPARENT, rb"one\ntwo\n<3>three"),  # it writes a backslash and an n
    ],
)
def test_a_message_of_several_lines_stays_whole(framing: int, expected: bytes) -> None:
    received: list[bytes] = []
    with handler(framing, received) as logger:
        logger.warning("one\ntwo\n<3>three")
    assert [parse(message).msg for message in received] == [b"\xef\xbb\xbf" + expected]
