"""The fields of a record as SD-PARAMs (RFC 5424 section 6.3.3).

The fields of a message's first record keep their names; only names that the message itself uses (`type`, `serial`, …)
are written as `TYPE.name`. The fields of all other records are written as `TYPE.name`, those of the second record of a
type as `TYPE2.name`. A key that occurs several times in a record becomes several SD-PARAMs of one name.

A PARAM-NAME must not hold the `]` of auditd's own names. The index of a long argument follows a dot, and a type without
a name is its number: `a1[0]` of EXECVE is `EXECVE.a1.0`, `proctitle` of `UNKNOWN[1327]` is `UNKNOWN1327.proctitle`, and
of the second such record `UNKNOWN1327_2.proctitle`. Other illegal octets become `_`, and names are cut to 32 octets.
Values are legal UTF-8. Control octets, which come from decoded hex, are written as `#012` (octal, as rsyslog does); MSG
has the record itself unchanged.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from relay.events.audit.fields import labelled
from relay.events.audit.record import Record
from relay.events.envelope import OWN_NAMES
from relay.syslog.rfc5424 import escape_value, legal_name

_CLEAN = bytes(set(range(32, 127)) - set(b'"\\]'))
_CLEAN_AND_QUOTE = _CLEAN + b'"'
_INDEX = re.compile(rb"\[([0-9]+)\]")
_DIGITS: Final = b"0123456789"
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_REMEMBERED_NAMES = 512
_REMEMBERED_LABELS = 512


def param_value(value: bytes) -> bytes:
    """Write any octets as a legal PARAM-VALUE."""
    if not value.translate(None, _CLEAN):
        return value
    return escape_value(_CONTROL.sub(lambda control: b"#%03o" % control[0][0], value))


class _Openings(dict[bytes, bytes]):
    """The text before a value, by the field's name, for the records of one label.

    It begins with the quote that closes the value before it. Remembers up to a ceiling, then forgets all.
    """

    def __init__(self, label: bytes, *, first: bool) -> None:
        super().__init__()
        self._label = label
        self._first = first
        """Whether only OWN_NAMES need the label."""

    def __missing__(self, name: bytes) -> bytes:
        if len(self) >= _REMEMBERED_NAMES:
            self.clear()
        needs_label = not self._first or name in OWN_NAMES
        indexed = _INDEX.sub(rb".\1", name)
        full = b"%b.%b" % (self._label, indexed) if needs_label else indexed
        opening = self[name] = b'" %b="' % legal_name(full)
        return opening


@lru_cache(_REMEMBERED_LABELS)
def _openings(type_: bytes, nth: int) -> _Openings:
    """Label the nth record of a type `PATH`, `PATH2`, `UNKNOWN1327`, `UNKNOWN1327_2`; 0: the message's first record."""
    label = _INDEX.sub(rb"\1", type_)
    if nth > 1:
        label = (b"%b_%d" if label[-1] in _DIGITS else b"%b%d") % (label, nth)
    return _Openings(label, first=not nth)


def first_params(record: Record) -> bytes:
    """Write the fields of a message's first record, each with the space before it."""
    return _params(record, _openings(record.type, 0))


def other_params(records: Sequence[Record]) -> bytes:
    """Write the fields of all records except the first."""
    seen = {records[0].type: 1}
    written = []
    for record in records[1:]:
        nth = seen[record.type] = seen.get(record.type, 0) + 1
        written.append(_params(record, _openings(record.type, nth)))
    return b"".join(written)


def _params(record: Record, openings: _Openings) -> bytes:
    pieces = labelled(record, openings)
    if not pieces:
        return b""
    params = b"".join(pieces)
    # All values are checked together, because there is rarely anything to escape. Each has two quotes.
    if params.translate(None, _CLEAN_AND_QUOTE) or params.count(b'"') != len(pieces):
        pieces[1::2] = map(param_value, pieces[1::2])
        params = b"".join(pieces)
    return params[1:] + b'"'
