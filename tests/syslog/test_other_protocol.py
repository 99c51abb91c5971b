"""Streams that are not syslog, recognised by their first octets, however these are cut."""

import pytest

from relay.syslog.other_protocol import PROXY_SIGNATURE, OtherProtocolError, is_tls, needs_more, other_protocol

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
OTHERS = {
    HELLO: "TLS",
    b"SSH-2.0-OpenSSH_9.2p1\r\n": "SSH",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n": "HTTP",
    b"OPTIONS * HTTP/1.0\r\n\r\n": "HTTP",
    b"POST /" + b"x" * 4000 + b" HTTP/1.1\n\n": "HTTP",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": "HTTP",
    PROXY_SIGNATURE + b"\x21\x11\0\x0c": "a PROXY header, version 2",
}
SYSLOG = (
    b"<14>1 - - - - - -\n",
    b"9 <14>abcde",
    b"1 open 3 a=b\n",
    b"GET the door\n",
    b"GET / HTTP/1.1 200 12\n",  # a web server's own log
    b"GETTING / HTTP/1.1\n",
    b"POST",
    b"PUT " + b"x" * 9000,
    b"\x16\x04",
    b"SSHD: x\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",  # of a peer that is not a proxy
    b"\r\n\r\n<14>x\n",
    b"\0\0\n",
)


def decided(stream: bytes, *, bytewise: bool) -> tuple[str, int]:
    """The protocol's name, "" for syslog, and how many octets decided."""
    for end in range(1, len(stream) + 1) if bytewise else [len(stream)]:
        if (other := other_protocol(stream[:end])) is not None:
            return other.name, end
        if not needs_more(stream[:end]):
            return "", end
    ended = other_protocol(stream, ended=True)
    return ("" if ended is None else ended.name), len(stream)


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("stream", OTHERS)
def test_another_protocol_is_named(stream: bytes, bytewise: bool) -> None:
    assert decided(stream, bytewise=bytewise)[0] == OTHERS[stream]


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("stream", SYSLOG)
def test_syslog_is_not_taken_for_another_protocol(stream: bytes, bytewise: bool) -> None:
    assert decided(stream, bytewise=bytewise)[0] == ""


def test_a_request_without_its_line_end_is_recognised_at_the_streams_end() -> None:
    assert decided(b"GET / HTTP/1.1", bytewise=True) == ("HTTP", 14)


@pytest.mark.parametrize("stream", [b"<14>x", b"Nov 30", b"{", b"%ASA", b"9 <", b"\xef\xbb\xbf<", b" <14>"])
def test_the_first_octet_of_syslog_decides_at_once(stream: bytes) -> None:
    assert decided(stream, bytewise=True) == ("", 1)


def test_only_a_handshake_may_begin_tls() -> None:
    assert is_tls(HELLO)
    assert is_tls(HELLO[:1])
    assert not is_tls(b"\x16\x01")
    assert not is_tls(b"<14>x")


def test_the_error_quotes_the_octets_and_has_a_remedy() -> None:
    other = other_protocol(HELLO)
    assert other is not None
    error = OtherProtocolError(other, HELLO + b"x" * 5000)
    assert 'begins with "\\x16\\x03\\x01\\x02' in str(error)
    assert "which is TLS; send it to the port of [receiver.tls]" in str(error)
    assert len(str(error)) < 400
