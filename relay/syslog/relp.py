"""RELP sessions, both sides, without a socket: octets in, messages or answers out, and the octets to send.

A client opens, sends `syslog` frames as far as its window allows, and gets one `rsp` for each, in the same order; TXNR
begins at 1 and rises by one. `RelpServer` answers a message only when it is told that it is `accepted`, which ours is
after fsync. Version 0 is offered, 0 and 1 are taken; the only command is `syslog`. There is no resumption: what is
unanswered when a session ends is sent again in the next one.

Where the peer breaks the protocol, what came before is given, `error` (a RelpError) says how, and every later `receive`
raises it. The result is the same however the octets are cut.

Ceilings: the server keeps one unfinished message of at most `max_message_size` octets, and the answer to each message
not accepted yet; a longer message is passed over, counted in `oversized` and answered 500. The client keeps an integer
for each frame of its window, and takes answers of at most `LONGEST_ANSWER` octets.
"""

import re
from collections import deque
from typing import Final, NamedTuple

from relay.errors import InternalError
from relay.syslog.relp_frame import LAST_TXNR, Frame, FrameReader, RelpError, encode
from relay.values.settings import LARGEST_MESSAGE_SIZE
from relay.values.text import decoded, escaped

LONGEST_ANSWER: Final = 16 * 1024
RECONNECT_AT: Final = 999_000_000
"""TXNR has nine digits; librelp's server expects 1000000000 after 999999999 and cannot read it."""

_OFFERS: Final = b"relp_version=0\nrelp_software=relay\ncommands=syslog"
_VERSIONS: Final = frozenset({b"0", b"1"})
_ACCEPTED: Final = 200
_BODY: Final = re.compile(rb"([0-9]{3})(?: ([^\n]*))?(?:\n(.*))?", re.DOTALL)
_SHOWN: Final = 80  # characters of an answer's text; what the specification allows


def _offers(data: bytes) -> dict[bytes, frozenset[bytes]]:
    """What a peer offers: `NAME=VALUE,VALUE` lines; unknown ones are the caller's to ignore."""
    lines = (line.partition(b"=") for line in data.split(b"\n"))
    return {name: frozenset(values.split(b",")) for name, _, values in lines}


def _lacking(data: bytes) -> str | None:
    """What an open's offers lack for a session; None when nothing."""
    offers = _offers(data)
    if not offers.get(b"relp_version", frozenset()) & _VERSIONS:
        return "it offers no relp_version 0 or 1"
    if b"syslog" not in offers.get(b"commands", frozenset()):
        return "it does not offer the command syslog"
    return None


class _Reply(NamedTuple):
    """A server's answer, as it goes out."""

    octets: bytes
    awaits: bool
    """Whether its message is yet to be accepted."""


class RelpServer:
    """The side that takes messages in; a relay.listener.conversation.Conversation."""

    def __init__(self, max_message_size: int = LARGEST_MESSAGE_SIZE) -> None:
        self.error: RelpError | None = None
        self.oversized = 0
        """Messages passed over, and refused, because they are too long."""
        self.closing = False
        """Whether the peer has asked for the end."""
        self._reader = FrameReader(max_message_size)
        self._due = 1  # the next frame's TXNR
        self._opened = False
        self._line: deque[_Reply] = deque()  # from the first that awaits: answers go out in the order of the frames
        self._ready: list[bytes] = []

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._reader.partial

    def receive(self, data: bytes) -> list[bytes]:
        """Take the stream's next octets; the messages that they complete."""
        if self.error is not None:
            raise self.error
        messages: list[bytes] = []
        for frame in self._reader.receive(data):
            self.error = self._take(frame, messages)
            if self.error is not None:
                return messages
        self.error = self._reader.error
        return messages

    def accepted(self, messages: int) -> None:
        """So many more of the messages that were given, the oldest first, are kept for good."""
        for _ in range(messages):
            self._ready.append(self._line.popleft().octets)
            while self._line and not self._line[0].awaits:
                self._ready.append(self._line.popleft().octets)

    def reply(self) -> bytes:
        """Take what is to be sent to the peer now; b"" when there is nothing."""
        reply = b"".join(self._ready)
        self._ready.clear()
        return reply

    def finish(self) -> bool:
        """End the stream; whether it ended between frames. A peer need not send `close` before."""
        if self.error is not None:
            raise self.error
        return not self.partial

    def _take(self, frame: Frame, messages: list[bytes]) -> RelpError | None:
        """Take a frame; what is wrong with it."""
        if frame.txnr != self._due or self.closing:
            when = "after close" if self.closing else f"where frame {self._due} is due"
            return RelpError(f"frame {frame.txnr} came {when}")
        self._due += 1
        match frame.command:
            case b"syslog" if self._opened:
                self._take_message(frame, messages)
            case b"open" if not self._opened:
                return self._open(frame)
            case b"close":
                self.closing = True
                self._answer(frame, b"")
            case command:
                again = "again" if command == b"open" else "here"
                return self._refuse(frame, f"{command.decode()} may not come {again}")
        return None

    def _take_message(self, frame: Frame, messages: list[bytes]) -> None:
        if frame.data:
            messages.append(frame.data)
            self._line.append(_Reply(b"%d rsp 6 200 OK\n" % frame.txnr, awaits=True))
        elif frame.data is None:
            self.oversized += 1
            self._answer(frame, b"500 the message is too long")
        else:
            # An empty message tells nothing and no syslog framing can carry it: there is nothing to keep.
            self._answer(frame, b"200 OK")

    def _open(self, frame: Frame) -> RelpError | None:
        lacking = "its offers are too long" if frame.data is None else _lacking(frame.data)
        if lacking is not None:
            return self._refuse(frame, f"open: {lacking}")
        self._opened = True
        self._answer(frame, b"200 OK\n" + _OFFERS)
        return None

    def _refuse(self, frame: Frame, cause: str) -> RelpError:
        self._answer(frame, b"500 " + cause.encode())
        return RelpError(f"frame {frame.txnr}: {cause}")

    def _answer(self, frame: Frame, body: bytes) -> None:
        octets = encode(frame.txnr, b"rsp", body)
        if self._line:
            self._line.append(_Reply(octets, awaits=False))
        else:
            self._ready.append(octets)


class RelpWindow(NamedTuple):
    """How much a client sends ahead of the answers; one message may go whatever its size."""

    messages: int = 1024
    octets: int = 1024 * 1024


DEFAULT_WINDOW: Final = RelpWindow()


class RelpResponse(NamedTuple):
    """What a server says to one message."""

    txnr: int
    code: int
    text: str
    """For people; printable."""

    @property
    def accepted(self) -> bool:
        """Whether the message is the server's now."""
        return self.code == _ACCEPTED

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


class RelpClient:
    """The side that sends messages. `open` once; `send` when `opened`; what is read goes to `receive`."""

    def __init__(self, window: RelpWindow = DEFAULT_WINDOW, *, reconnect_at: int = RECONNECT_AT) -> None:
        self.error: RelpError | None = None
        self.opened = False
        """Whether the server has answered `open` and takes messages."""
        self.server_closes = False
        """Whether the server has said that it ends the session (`serverclose`, a hint that is not answered)."""
        self.closed = False
        """Whether the server has answered our `close`."""
        self._window = window
        self._reconnect_at = reconnect_at
        self._reader = FrameReader(LONGEST_ANSWER)
        self._next = 1
        self._unanswered: deque[int] = deque()  # the octets of each frame's data
        self._octets = 0
        self._close = 0  # the TXNR of our close

    @property
    def unanswered(self) -> int:
        """Frames that wait for their answer."""
        return len(self._unanswered)

    @property
    def exhausted(self) -> bool:
        """Whether TXNR comes near its end: open a new session once everything is answered."""
        return self._next >= self._reconnect_at

    def has_room(self, octets: int) -> bool:
        """Whether the window allows a message of so many octets."""
        return not self._unanswered or (
            len(self._unanswered) < self._window.messages and self._octets + octets <= self._window.octets
        )

    def open(self) -> bytes:
        """The octets that open the session."""
        return self._frame(b"open", _OFFERS)

    def send(self, message: bytes) -> bytes:
        """The octets that carry a message."""
        return self._frame(b"syslog", message)

    def close(self) -> bytes:
        """The octets that end the session; nothing may be sent after them."""
        self._close = self._next
        return self._frame(b"close", b"")

    def receive(self, data: bytes) -> list[RelpResponse]:
        """Take what the server says; the answers to messages, in the order in which these were sent."""
        if self.error is not None:
            raise self.error
        answers: list[RelpResponse] = []
        for frame in self._reader.receive(data):
            self.error = self._take(frame, answers)
            if self.error is not None:
                return answers
        self.error = self._reader.error
        return answers

    def _frame(self, command: bytes, data: bytes) -> bytes:
        if self._next > LAST_TXNR:
            raise InternalError("RELP session", "TXNR has come to its end and no new session was opened")
        frame = encode(self._next, command, data)
        self._next += 1
        self._unanswered.append(len(data))
        self._octets += len(data)
        return frame

    def _take(self, frame: Frame, answers: list[RelpResponse]) -> RelpError | None:
        """Take a frame; what is wrong with it."""
        if frame.command == b"serverclose" and not frame.txnr:
            self.server_closes = True
            return None
        fault = self._fault(frame)
        if fault is not None:
            return RelpError(fault)
        self._octets -= self._unanswered.popleft()
        if frame.txnr == self._close:
            self.closed = True
            return None
        body = _BODY.fullmatch(frame.data or b"")
        if body is None:
            return RelpError(f"the server's answer to frame {frame.txnr} does not begin with a three-digit code")
        answer = RelpResponse(frame.txnr, int(body[1]), _shown(body[2] or b""))
        if answer.txnr > 1:
            answers.append(answer)
            return None
        return self._take_opening(answer, body[3] or b"")

    def _fault(self, frame: Frame) -> str | None:
        """Say what forbids to take a frame for the oldest unanswered frame's answer."""
        due = self._next - len(self._unanswered)
        if frame.command != b"rsp":
            return f"the server sent {frame.command.decode()} as frame {frame.txnr}, not an answer"
        if frame.txnr >= self._next or not frame.txnr:
            return f"the server answered frame {frame.txnr}, which was never sent"
        if frame.txnr < due:
            return f"the server answered frame {frame.txnr} twice"
        if frame.txnr > due:
            return f"the server answers out of order: frame {frame.txnr} before frame {due}"
        return None

    def _take_opening(self, answer: RelpResponse, offers: bytes) -> RelpError | None:
        lacking = _lacking(offers) if answer.accepted else f"it says {answer}"
        if lacking is not None:
            return RelpError(f"the server refuses the session, or speaks no RELP that relay knows: {lacking}")
        self.opened = True
        return None


def _shown(text: bytes) -> str:
    return escaped(decoded(text[:_SHOWN]))
