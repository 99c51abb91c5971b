"""What reading found in a message. Pure."""

import enum
from typing import NamedTuple

from relay.syslog.priority import USER_NOTICE
from relay.syslog.rfc5424 import Element, Identity


class FormMark(enum.IntFlag):
    """What reading noted about a message's form."""

    NO_PRI = 1
    """It has no usable PRI; 13 is assumed (RFC 3164 section 4.3.3)."""
    REPAIRED = 2
    """It was parsed although it breaks the rules of its form."""
    NO_TIME = 4
    """It has no usable time."""
    INFERRED = 8
    """Its year or its zone was inferred."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names that the ledger has for the marks."""
        return tuple((mark.name or "").lower().replace("_", "-") for mark in FormMark if mark in self)


NOTHING_MARKED = FormMark(0)


class Glance(NamedTuple):
    """What the archive needs to know of every message."""

    host: bytes | None
    time: int | None
    """Microseconds since the epoch."""
    identity: Identity | None = None
    """The identity that a message claims as one of relay's own."""
    marks: FormMark = NOTHING_MARKED


class Reading(NamedTuple):
    """Everything that a message says about itself. None: it does not say."""

    priority: int = USER_NOTICE
    time: int | None = None
    """Microseconds since the epoch."""
    host: bytes | None = None
    app: bytes | None = None
    """APP-NAME, or the TAG of RFC 3164 without its process id."""
    procid: bytes | None = None
    msgid: bytes | None = None
    structured_data: tuple[Element, ...] = ()
    msg_at: int = 0
    """Where MSG begins."""
    marks: FormMark = NOTHING_MARKED

    @property
    def facility(self) -> int:
        """Its number (RFC 5424 table 1)."""
        return self.priority >> 3

    @property
    def severity(self) -> int:
        """Its number (RFC 5424 table 2)."""
        return self.priority & 7


Texts = dict[str, dict[str, str | list[str]]]
"""STRUCTURED-DATA by SD-ID and name; a list where a name occurs several times."""


def as_texts(elements: tuple[Element, ...]) -> Texts:
    r"""The elements for programs; octets that are not UTF-8 are written `\xHH`. An SD-ID that occurs twice is one."""
    found: Texts = {}
    for element in elements:
        values = found.setdefault(element.id.decode("utf-8", "backslashreplace"), {})
        for name, value in element.params:
            key, text = name.decode("utf-8", "backslashreplace"), value.decode("utf-8", "backslashreplace")
            known = values.get(key)
            if known is None:
                values[key] = text
            elif isinstance(known, list):
                known.append(text)
            else:
                values[key] = [known, text]
    return found
