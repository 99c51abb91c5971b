"""Messages that have RFC 5424's version and time stamp but break one of its rules. Pure.

Senders write seven to nine fraction digits, a leap second, `+0100`, a space in the time stamp, two spaces between
fields, fields that are too long or not ASCII, an SD-ID twice, `[]`, values without quotes, and no STRUCTURED-DATA at
all. VMware writes an RFC 3164 tag (`Hostd:`) behind HOSTNAME; Meraki writes seconds since the epoch.
"""

import re
from datetime import tzinfo
from typing import Final, NamedTuple

from relay.syslog.lenient.reading import FormMark, Reading
from relay.syslog.lenient.strict import unescaped
from relay.syslog.lenient.time_stamps import STAMP, StampTime, epoch_time, time_of
from relay.syslog.rfc5424 import NILVALUE, Element

_VERSION: Final = re.compile(rb"([1-9][0-9]{0,2}) +")
_NIL_TIME: Final = re.compile(rb"- +[^ ]++ +[^ ]++ +[^ ]++ +[^ ]++ +(?:-(?: |\Z)|\[)")
_EPOCH_TIME: Final = re.compile(rb"([0-9]{9,11})(?:\.([0-9]{1,9}))? ")
_FIELD: Final = re.compile(rb" *([^ ]++)")
_TAG: Final = re.compile(rb" *([^ \[\]:]{1,128}+)(?:\[([^ \]]{0,64}+)\])?:(?: |\Z)")
_ELEMENT: Final = re.compile(
    rb'\[([^ \]="]{1,255}+)((?: +[^ \]="]{1,255}+=(?:"(?:[^"\\]++|\\.)*+"|[^" \]]*+))*+) *\]', re.DOTALL
)
_PARAM: Final = re.compile(rb' +([^ \]="]{1,255}+)=(?:"((?:[^"\\]++|\\.)*+)"|([^" \]]*+))', re.DOTALL)
_EMPTY: Final = re.compile(rb"\[ *\]")


class LooseData(NamedTuple):
    """STRUCTURED-DATA, and where it ends."""

    elements: tuple[Element, ...]
    end: int


def read(message: bytes, at: int, received: int, zone: tzinfo) -> Reading | None:
    """Read the message behind its PRI; None when it does not have this form. The priority is the caller's."""
    version = _VERSION.match(message, at)
    if version is None:
        return None
    at = version.end()
    stamp = STAMP.match(message, at)
    epoch = _EPOCH_TIME.match(message, at)
    if stamp is not None and stamp["iso_year"] is not None and message[stamp.end() : stamp.end() + 1] in {b" ", b""}:
        found = time_of(stamp, received, zone)
        at = stamp.end()
    elif epoch is not None:
        host = _FIELD.match(message, epoch.end())
        time = epoch_time(epoch[1], epoch[2])
        at = host.end() if host else epoch.end()
        return Reading(time=time, host=_value(host), msg_at=text_at(message, at), marks=FormMark.REPAIRED)
    elif _NIL_TIME.match(message, at):
        found = StampTime(None, inferred=False)
        at += 1
    else:
        return None
    marks = FormMark.REPAIRED | (FormMark.NO_TIME if found.time is None else 0)
    marks |= FormMark.INFERRED if found.inferred else 0
    return _fields(message, at, Reading(time=found.time, marks=FormMark(marks)))


def _fields(message: bytes, at: int, begun: Reading) -> Reading:
    """Read what follows the time stamp."""
    host = _FIELD.match(message, at)
    at = host.end() if host else at
    tag = _TAG.match(message, at)
    if tag is not None:
        reading = begun._replace(host=_value(host), app=tag[1], procid=tag[2] or None)
        return reading._replace(msg_at=text_at(message, tag.end() - 1))
    values: list[bytes | None] = []
    for _ in range(3):
        field = _FIELD.match(message, at)
        values.append(_value(field))
        at = field.end() if field else at
    spaces = len(message) - at - len(message[at:].lstrip(b" "))
    data = data_at(message, at + spaces)
    app, procid, msgid = values
    return begun._replace(
        host=_value(host),
        app=app,
        procid=procid,
        msgid=msgid,
        structured_data=data.elements,
        msg_at=text_at(message, data.end),
    )


def data_at(message: bytes, at: int) -> LooseData:
    """Read STRUCTURED-DATA as far as it has the form of elements; it ends where it begins when it has none."""
    if message[at : at + 1] == NILVALUE and message[at + 1 : at + 2] in {b"", b" "}:
        return LooseData((), at + 1)
    elements: list[Element] = []
    end = at
    while True:
        element = _ELEMENT.match(message, end)
        if element is not None:
            params = ((match[1], unescaped(match[2] or match[3] or b"")) for match in _PARAM.finditer(element[2]))
            elements.append(Element(element[1], tuple(params)))
            end = element.end()
        elif empty := _EMPTY.match(message, end):
            end = empty.end()
        else:
            return LooseData(tuple(elements), end)


def text_at(message: bytes, at: int) -> int:
    """Where the text begins that one space separates from what ends at `at`."""
    return at + 1 if message[at : at + 1] == b" " else at


def _value(field: "re.Match[bytes] | None") -> bytes | None:
    return None if field is None or field[1] == NILVALUE else field[1]
