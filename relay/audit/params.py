"""The fields of a record as SD-PARAMs (RFC 5424 section 6.3.3).

The first record of a message gives its fields by their own names; only those that the message itself uses
(`type`, `serial`, …) are written as `TYPE.name`. Other records give all of theirs as `TYPE.name`, the second record
of a type as `TYPE2.name`. Names are made legal and cut to 32 octets. Values are legal UTF-8; control octets, which
come from decoded hex, are written as `#012` (octal, as rsyslog writes them): the record itself stands in MSG as it
came.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from relay.audit.fields import labelled
from relay.audit.record import Record
from relay.syslog.rfc5424 import escape_value, legal_name

OWN_NAMES: Final = frozenset(b"relayRun relaySeq relayPart type router node serial late malformed truncated".split())
_CLEAN = bytes(set(range(32, 127)) - set(b'"\\]'))
_CLEAN_AND_QUOTE = _CLEAN + b'"'
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_REMEMBERED_NAMES = 512
_REMEMBERED_LABELS = 512


def param_value(value: bytes) -> bytes:
    """Write any octets as a legal PARAM-VALUE."""
    if not value.translate(None, _CLEAN):
        return value
    return escape_value(_CONTROL.sub(lambda control: b"#%03o" % control[0][0], value))


class _Openings(dict[bytes, bytes]):
    """What stands before a value, by the field's name, for the records of one label.

    It begins with the quote that closes the value before it. Remembered up to a ceiling, then forgotten in whole.
    """

    def __init__(self, label: bytes, own_names: frozenset[bytes] | None) -> None:
        super().__init__()
        self._label = label
        self._prefixed = own_names
        """The names that need the label; None: all."""

    def __missing__(self, name: bytes) -> bytes:
        if len(self) >= _REMEMBERED_NAMES:
            self.clear()
        needs_label = self._prefixed is None or name in self._prefixed
        full = b"%b.%b" % (self._label, name) if needs_label else name
        opening = self[name] = b'" %b="' % legal_name(full)
        return opening


@lru_cache(_REMEMBERED_LABELS)
def _openings(label: bytes) -> _Openings:
    return _Openings(label, None)


@lru_cache(_REMEMBERED_LABELS)
def _first_openings(type_: bytes) -> _Openings:
    return _Openings(type_, OWN_NAMES)


def first_params(record: Record) -> bytes:
    """Write the fields of a message's first record, each with the space before it."""
    return _params(record, _first_openings(record.type))


def other_params(records: Sequence[Record]) -> bytes:
    """Write the fields of all records but the first."""
    seen = {records[0].type: 1}
    written = []
    for record in records[1:]:
        nth = seen[record.type] = seen.get(record.type, 0) + 1
        label = record.type if nth == 1 else b"%b%d" % (record.type, nth)
        written.append(_params(record, _openings(label)))
    return b"".join(written)


def _params(record: Record, openings: _Openings) -> bytes:
    pieces = labelled(record, openings)
    if not pieces:
        return b""
    params = b"".join(pieces)
    # One look at all values together: nearly always there is nothing to escape in any of them. Each has two quotes.
    if params.translate(None, _CLEAN_AND_QUOTE) or params.count(b'"') != len(pieces):
        pieces[1::2] = map(param_value, pieces[1::2])
        params = b"".join(pieces)
    return params[1:] + b'"'
