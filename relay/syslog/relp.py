"""RELP sessions, both sides, without a socket: octets in, messages or answers out, and the octets to send.

A client opens, sends `syslog` frames as far as its window allows, and gets one `rsp` for each, in the same order; TXNR
begins at 1 and rises by one. `RelpServer` answers a message only when it is `accepted`, which at relay's receiver comes
after fsync. relay offers version 0 and accepts 0 and 1; the only command is `syslog`. RELP has no resumption: messages
unanswered when a session ends are sent again in the next one.

When the peer breaks the protocol, `error` is a RelpError; see relay.syslog.answered_frames.

Ceilings: the server keeps one unfinished message of at most `max_message_size` octets, and the answer to each message
not accepted yet; a longer message is cut, marked and answered like any other. The client keeps an integer for
each frame of its window, and accepts answers of at most `LONGEST_ANSWER` octets.
"""

import re
from collections import deque
from typing import Final, NamedTuple

from typing_extensions import override

from relay.errors import InternalError
from relay.syslog.answered_frames import AnsweringServer, FrameReceiver
from relay.syslog.relp_frame import LAST_TXNR, Frame, RelpError, RelpFrameReader, encode
from relay.values.configuration.setting_types import LARGEST_MESSAGE_SIZE
from relay.values.text import decoded, escaped

LONGEST_ANSWER: Final = 16 * 1024
RECONNECT_AT: Final = 999_000_000
"""TXNR has nine digits; librelp's server expects 1000000000 after 999999999 and cannot read it."""

_OFFERS: Final = b"relp_version=0\nrelp_software=relay\ncommands=syslog"
_VERSIONS: Final = frozenset({b"0", b"1"})
_ACCEPTED: Final = 200
_BODY: Final = re.compile(rb"([0-9]{3})(?: ([^\n]*))?(?:\n(.*))?", re.DOTALL)
_LONGEST_TEXT: Final = 80  # characters of an answer; the specification's limit


def _missing_offer(data: bytes) -> str:
    """The offer, a line `NAME=VALUE,VALUE`, that a peer's open lacks for a session; "" when nothing is missing."""
    lines = (line.partition(b"=") for line in data.split(b"\n"))
    offers = {name: frozenset(values.split(b",")) for name, _, values in lines}
    if not offers.get(b"relp_version", frozenset()) & _VERSIONS:
        return "it offers no relp_version 0 or 1"
    if b"syslog" not in offers.get(b"commands", frozenset()):
        return "it does not offer the command syslog"
    return ""


class RelpServer(AnsweringServer[Frame]):
    """The side that receives messages."""

    def __init__(self, max_message_size: int = LARGEST_MESSAGE_SIZE) -> None:
        super().__init__(RelpFrameReader(max_message_size))
        self.closing = False
        """Whether the client has sent `close`; it need not, before it ends the stream."""
        self._due = 1  # the next frame's TXNR
        self._opened = False

    @override
    def _handle(self, frame: Frame, items: list[bytes]) -> RelpError | None:
        txnr, command, data, dropped = frame
        if txnr != self._due or self.closing:
            when = "after close" if self.closing else f"where frame {self._due} is due"
            return RelpError(f"frame {txnr} came {when}")
        self._due += 1
        if command == b"syslog" and self._opened:
            if data:
                if dropped:
                    self._note_cut(items, dropped)
                items.append(data)
                self._answer(b"%d rsp 6 200 OK\n" % txnr, when_accepted=True)
            else:  # an empty message holds nothing to keep, and no syslog framing can carry it
                self._respond(txnr, b"200 OK")
        elif command == b"open" and not self._opened:
            missing = "its offers are too long" if dropped else _missing_offer(data)
            if missing:
                return self._refuse(txnr, f"open: {missing}")
            self._opened = True
            self._respond(txnr, b"200 OK\n" + _OFFERS)
        elif command == b"close":
            self.closing = True
            self._respond(txnr, b"")
        else:
            again = "again" if command == b"open" else "here"
            return self._refuse(txnr, f"{command.decode()} may not come {again}")
        return None

    def _refuse(self, txnr: int, cause: str) -> RelpError:
        self._respond(txnr, b"500 " + cause.encode())
        return RelpError(f"frame {txnr}: {cause}")

    def _respond(self, txnr: int, body: bytes) -> None:
        self._answer(encode(txnr, b"rsp", body))


class RelpWindow(NamedTuple):
    """How much a client sends ahead of the answers; one message may be sent whatever its size."""

    messages: int = 1024
    octets: int = 1024 * 1024


DEFAULT_WINDOW: Final = RelpWindow()


class RelpResponse(NamedTuple):
    """A server's answer to one message."""

    txnr: int
    code: int
    text: str
    """For people; printable."""

    @property
    def accepted(self) -> bool:
        """Whether the server has the message for good."""
        return self.code == _ACCEPTED

    @property
    def warns(self) -> bool:
        """Never: RELP has no warnings."""
        return False

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


class RelpClient(FrameReceiver[Frame, RelpResponse]):
    """The side that sends messages. `open` once, `send` when `opened`; octets from the server go to `receive`."""

    def __init__(self, window: RelpWindow = DEFAULT_WINDOW, *, reconnect_at: int = RECONNECT_AT) -> None:
        super().__init__(RelpFrameReader(LONGEST_ANSWER))
        self.opened = False
        """Whether the server has answered `open`, and accepts messages."""
        self.ending = False
        """Whether the server has announced the session's end (`serverclose`, a hint that is not answered)."""
        self.closed = False
        """Whether the server has answered our `close`."""
        self._window = window
        self._reconnect_at = reconnect_at
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
        """Whether TXNR is near its end: open a new session once everything is answered."""
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
        """The octets that end the session; nothing must be sent after them."""
        self._close = self._next
        return self._frame(b"close", b"")

    def _frame(self, command: bytes, data: bytes) -> bytes:
        if self._next > LAST_TXNR:
            raise InternalError("RELP session", "TXNR is used up, and no new session was opened")
        frame = encode(self._next, command, data)
        self._next += 1
        self._unanswered.append(len(data))
        self._octets += len(data)
        return frame

    @override
    def _handle(self, frame: Frame, items: list[RelpResponse]) -> RelpError | None:
        if frame.command == b"serverclose" and not frame.txnr and not self.ending:
            self.ending = True
            return None
        if (cause := self._misplaced(frame)) is not None:
            return RelpError(cause)
        self._octets -= self._unanswered.popleft()
        if frame.txnr == self._close:
            self.closed = True
            return None
        body = _BODY.fullmatch(frame.data)
        if body is None:
            return RelpError(f"the server's answer to frame {frame.txnr} does not begin with a three-digit code")
        text = escaped(decoded((body[2] or b"")[:_LONGEST_TEXT]))
        response = RelpResponse(frame.txnr, int(body[1]), text)
        if response.txnr > 1:
            items.append(response)
        elif missing := _missing_offer(body[3] or b"") if response.accepted else f"it answers {response}":
            return RelpError(f"the server refuses the session, or its RELP is unknown to relay: {missing}")
        else:
            self.opened = True
        return None

    def _misplaced(self, frame: Frame) -> str | None:
        """Why a frame cannot be the answer to the oldest unanswered frame; None when it can."""
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
