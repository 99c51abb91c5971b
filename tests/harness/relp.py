"""A RELP collector that keeps to the protocol, except where the test decides otherwise."""

from collections.abc import Callable
from functools import partial

from harness.answering_peer import AnsweringPeer
from relay.syslog.relp_frame import Frame, RelpFrameReader, encode

OPENED = b"200 OK\nrelp_version=0\nrelp_software=test,1,http://example.org\ncommands=syslog"
_LARGEST = 1 << 26

Answer = Callable[["RelpPeer", Frame], bytes]
"""What is answered to a message."""


def accept(peer: "RelpPeer", frame: Frame) -> bytes:
    """Keep the message and answer 200, as a collector should."""
    peer.messages.append(frame.data or b"")
    return encode(frame.txnr, b"rsp", b"200 OK")


def refuse(peer: "RelpPeer", frame: Frame) -> bytes:
    """Answer 500."""
    peer.refusals += 1
    return encode(frame.txnr, b"rsp", b"500 the disk is full")


class RelpPeer(AnsweringPeer[Frame]):
    """An AnsweringPeer; it answers `open` with `opened`."""

    def __init__(self, answer: Answer = accept, *, first: tuple[Answer, ...] = (), opened: bytes = OPENED) -> None:
        super().__init__(
            partial(answer, self), [partial(each, self) for each in first], lambda: RelpFrameReader(_LARGEST).receive
        )
        self.messages: list[bytes] = []
        """Accepted messages, in order."""
        self.closes = 0
        """The number of `close` requests."""
        self.opened = opened

    def _reply(self, question: Frame) -> bytes | None:
        if question.command == b"open":
            return encode(question.txnr, b"rsp", self.opened)
        if question.command == b"close":
            self.closes += 1
            return encode(question.txnr, b"rsp", b"")
        return None
