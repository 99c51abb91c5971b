"""A stored message as what a server takes: whole, in parts, or cut.

Applied at delivery; what is stored never changes. `limit` is the server's largest message in octets; None, for
framings in which an LF ends a message, sends every audit event record by record whatever its size (a part of it is
a message of one record, and may be given here again with a limit).

- A message within the limit comes back as it is.
- An audit event over it goes record by record: the header with that record's type as MSGID, the same `relayRun` and
  `relaySeq`, `relayPart="2/5"` after them, the event's `type`, `router`, `node`, `serial` and marks, that record's own
  fields by their own names, and that record as MSG. The severity stays the event's.
- A record, or another message of relay's own, that is still over it loses its SD-PARAMs first, all but the identity,
  `type`, `router`, `node`, `serial`, `late` and `malformed`, then the end of its MSG, and says `truncated="1"`.
  Should these alone be over the limit they go all the same: an identity is never cut.
- A foreign message (no identity) loses the end of its MSG; where its header and structured data alone are over the
  limit, or it is no RFC 5424, it is cut at the limit as plain octets. It cannot say so.

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
    # A lookahead is never entered again: none of these goes to the fields behind them.
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
    """The pieces of one of relay's own messages that are put together anew."""

    header: bytes
    """Up to MSGID, and the space before it."""
    msgid: bytes
    identity: bytes
    """From the space after MSGID to the end of `relaySeq`."""
    part: bytes
    kept: bytes
    msg: bytes


def parts(message: bytes, limit: int | None) -> list[bytes]:
    """Give what is to be sent for a stored message, in order; at least one message."""
    if limit is not None and len(message) <= limit:
        return [message]
    own = _read(message)
    if own is None:
        return [message if limit is None else _cut_foreign(message, limit)]
    records = _records(own)
    if len(records) < 2:  # noqa: PLR2004 -- more than one
        return [message if limit is None else _truncate(own, limit)]
    return [_part(own, record, nth, len(records), limit) for nth, record in enumerate(records, 1)]


def _read(message: bytes) -> _Own | None:
    match = _OWN.fullmatch(message)
    if match is None:
        return None
    return _Own(*match.group("header", "msgid", "identity"), *(match[name] or b"" for name in _Own._fields[3:]))


def _records(own: _Own) -> list[Record]:
    """Find the records of a whole audit event; none in any other message."""
    if own.part or not own.kept.startswith(_AUDIT_EVENT):
        return []
    lines = own.msg.split(b"\n")
    records = [record for line in lines if (record := parse(line)) is not None]
    return records if len(records) == len(lines) else []


def _part(own: _Own, record: Record, nth: int, of: int, limit: int | None) -> bytes:
    single = own._replace(msgid=record.type, part=b' relayPart="%d/%d"' % (nth, of), msg=record.line)
    message = b"%b%b] %b" % (_before_fields(single), first_params(record), single.msg)
    return message if limit is None or len(message) <= limit else _truncate(single, limit)


def _truncate(own: _Own, limit: int) -> bytes:
    before = _before_fields(own) + b' truncated="1"]'
    room = limit - len(before) - 1
    return b"%b %b" % (before, _cut(own.msg, room)) if room > 0 and own.msg else before


def _before_fields(own: _Own) -> bytes:
    return b"".join((own.header, own.msgid, own.identity, own.part, own.kept))


def _cut_foreign(message: bytes, limit: int) -> bytes:
    match = _FOREIGN_BEFORE_MSG.match(message)
    if match is None or match.end() > limit:
        return _cut(message, limit)
    return match[0] + _cut(message[match.end() :], limit - match.end())


_CONTINUATION = range(0x80, 0xC0)
_LENGTHS = ((0xC2, 0xDF, 2), (0xE0, 0xEF, 3), (0xF0, 0xF4, 4))  # RFC 3629: first octet from, to; octets in all


def _cut(text: bytes, limit: int) -> bytes:
    """Keep at most `limit` octets, and no part of a UTF-8 character."""
    if limit < len(text) and text[limit] in _CONTINUATION:
        for start in range(limit - 1, max(limit - 4, -1), -1):
            if text[start] not in _CONTINUATION:
                return text[:start] if start + _character_length(text[start]) > limit else text[:limit]
    return text[:limit]


def _character_length(first: int) -> int:
    return next((length for low, high, length in _LENGTHS if low <= first <= high), 1)
