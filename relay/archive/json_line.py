r"""One line of an archive's log file in `archive-format = "json"`: an object with what a message says, and the message.

    {"time" (of the event, RFC 3339, UTC; null: the message has none), "received", "hostname", "app_name", "procid",
     "msgid" (null: the message has none), "facility", "severity" (of its PRI; 1 and 5 without one),
     "structured_data": {SD-ID: {NAME: VALUE}}, "message", "peer", "identity" (null: nothing was verified), "via"
     (listener and protocol), "marks": [MARK…], "raw" or "raw_base64"}

Names and values are those of `relay events --json`. "message" is MSG, with octets that are not UTF-8 written `\xHH`.
"raw" is the whole message; "raw_base64" instead where it is not UTF-8. Both are exact, so this format loses nothing:
`relay.archive.reading.line_search` reads the message back. Pure.
"""

import base64
from datetime import tzinfo
from typing import Any, Final

import msgspec

from relay.syslog.lenient.reader import read
from relay.syslog.lenient.reading import as_texts
from relay.syslog.rfc5424 import format_timestamp
from relay.values.provenance import Provenance
from relay.values.text import decoded, printable_json

_ENCODER: Final = msgspec.json.Encoder()


def encode(message: bytes, received: int, provenance: Provenance | None, marks: tuple[str, ...], zone: tzinfo) -> bytes:
    """The line without its LF. `zone`: of time stamps without one."""
    reading = read(message, received, zone)
    fields: dict[str, Any] = {
        "time": _text(reading.time),
        "received": _text(received),
        "hostname": reading.host and decoded(reading.host),
        "app_name": reading.app and decoded(reading.app),
        "procid": reading.procid and decoded(reading.procid),
        "msgid": reading.msgid and decoded(reading.msgid),
        "facility": reading.facility,
        "severity": reading.severity,
        "structured_data": as_texts(reading.structured_data),
        "message": decoded(message[reading.msg_at :]),
        "peer": provenance and provenance.peer,
        "identity": (provenance and provenance.identity) or None,
        "via": provenance and provenance.via,
        "marks": marks,
    }
    try:
        fields["raw"] = message.decode()
    except UnicodeDecodeError:
        fields["raw_base64"] = base64.b64encode(message).decode("ascii")
    return printable_json(_ENCODER.encode(fields))


def _text(microseconds: int | None) -> str | None:
    """A time as RFC 3339; None outside the years 1 to 9999."""
    try:
        return None if microseconds is None else format_timestamp(microseconds).decode("ascii")
    except OverflowError:
        return None
