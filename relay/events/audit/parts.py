"""A stored message as a server accepts it: whole, in parts, or cut.

Applied at delivery; stored messages never change. `limit` is the server's largest message in octets. None is for
framings in which an LF ends a message: every audit event then goes record by record whatever its size. A part of it is
a message of one record, and may be passed in again with a limit.

- A message within the limit is returned unchanged.
- An audit event over the limit goes record by record: the header with that record's type as MSGID, the same `relayRun`
  and `relaySeq`, `relayPart="2/5"` after them, the event's `type`, `router`, `node`, `serial` and marks, that record's
  fields by their own names, and that record as MSG. The severity is the event's.
- A record, or another message of relay's own, that is still over the limit loses its SD-PARAMs first, except the
  identity, `type`, `router`, `node`, `serial`, `late` and `malformed`. Then it loses the end of its MSG, and gets
  `truncated="1"`. An identity is never cut, even if the message is still over the limit then.
- A foreign message (without identity) loses the end of its MSG. If its header and structured data alone are over the
  limit, or if it is not RFC 5424, it is cut at the limit as plain octets. It gets no mark.

Cuts do not fall inside a UTF-8 character, where the octets there are UTF-8. Work is linear in the message.
"""

import re
from typing import Final, NamedTuple

from relay.events.audit.params import first_params
from relay.events.audit.record import Record, parse

_NAME = rb"[!#-<>-\\^-~]{1,32}"
_VALUE = rb'"(?:[^"\\\]]++|\\.)*+"'
# Repeated groups are not possessive here: Python 3.11 up to 3.11.4 continues in the wrong place after the last one.
_PARAMS = rb"(?: " + _NAME + rb"=" + _VALUE + rb")*"
_HEADER = rb"<[0-9]{1,3}>1 (?:[!-~]++ ){4}"

_OWN: Final = re.compile(
    rb"(?P<header>" + _HEADER + rb")(?P<msgid>[!-~]++)"
    rb"(?P<identity> \[" + _NAME + rb" relayRun=" + _VALUE + rb" relaySeq=" + _VALUE + rb")"
    rb"(?P<part> relayPart=" + _VALUE + rb")?"
    # A lookahead is never entered again, so none of these is matched as one of the fields behind them.
    rb"(?=(?P<kept>(?: (?:type|router|node|serial|late|malformed)=" + _VALUE + rb")*))(?P=kept)"
    rb'(?: truncated="1")?'
    rb"(?P<fields>" + _PARAMS + rb")\]"
    rb"(?:\[" + _NAME + _PARAMS + rb"\])*"
    rb"(?: (?P<msg>.*))?",
    re.DOTALL,
)
_FOREIGN_BEFORE_MSG: Final = re.compile(
    _HEADER + rb"[!-~]++ (?:-|(?:\[" + _NAME + _PARAMS + rb"\])+)(?: |\Z)", re.DOTALL
)
_AUDIT_EVENT: Final = b' type="audit"'


class _Own(NamedTuple):
    """The pieces of one of relay's own messages."""

    header: bytes
    """Up to MSGID, and the space before it."""
    msgid: bytes
    identity: bytes
    """From the space after MSGID to the end of `relaySeq`."""
    part: bytes
    kept: bytes
    msg: bytes

    @property
    def before_fields(self) -> bytes:
        return b"".join(self[:-1])


def parts(message: bytes, limit: int | None) -> list[bytes]:
    """Return what to send for a stored message, in order; at least one message."""
    if limit is not None and len(message) <= limit:
        return [message]
    match = _OWN.fullmatch(message)
    if match is None:
        if limit is None:
            return [message]
        before = _FOREIGN_BEFORE_MSG.match(message)
        end = before.end() if before is not None and before.end() <= limit else 0
        return [message[:end] + _cut(message[end:], limit - end)]
    own = _Own(*match.group("header", "msgid", "identity"), *(match[name] or b"" for name in _Own._fields[3:]))
    records: list[Record | None] = []
    if own.kept.startswith(_AUDIT_EVENT) and not own.part:
        records = [parse(line) for line in own.msg.split(b"\n")]
    if len(records) < 2 or None in records:  # noqa: PLR2004 -- more than one
        return [message if limit is None else _truncate(own, limit)]
    written = []
    for nth, record in enumerate(filter(None, records), 1):
        part = own._replace(msgid=record.type, part=b' relayPart="%d/%d"' % (nth, len(records)), msg=record.line)
        whole = b"%b%b] %b" % (part.before_fields, first_params(record), part.msg)
        written.append(whole if limit is None or len(whole) <= limit else _truncate(part, limit))
    return written


def _truncate(own: _Own, limit: int) -> bytes:
    before = own.before_fields + b' truncated="1"]'
    length = limit - len(before) - 1
    return b"%b %b" % (before, _cut(own.msg, length)) if length > 0 and own.msg else before


_CONTINUATION = range(0x80, 0xC0)
_LENGTHS = ((0xC2, 0xDF, 2), (0xE0, 0xEF, 3), (0xF0, 0xF4, 4))  # RFC 3629: first octet from, to; octets in all


def _cut(text: bytes, limit: int) -> bytes:
    """Keep at most `limit` octets, and no part of a UTF-8 character."""
    if limit < len(text) and text[limit] in _CONTINUATION:
        for start in range(limit - 1, max(limit - 4, -1), -1):
            if text[start] not in _CONTINUATION:
                length = next((length for low, high, length in _LENGTHS if low <= text[start] <= high), 1)
                return text[:start] if start + length > limit else text[:limit]
    return text[:limit]
