"""One line of an archive's log file: a message's octets, escaped so that the line is text. Pure.

Octets below 0x20, and 0x7F, are written `#ooo` with three octal digits, as rsyslog writes them. A `#` itself is written
`#043` only where three octal digits follow it. So the escaping is reversible, and most messages are stored unchanged.
"""

import re
from collections.abc import Sequence
from typing import Final

_CONTROLS: Final = bytes((*range(32), 127))
_SPECIAL: Final = re.compile(rb"[\x00-\x1f\x7f]|#(?=[0-7]{3})")
_ESCAPED_HASH: Final = re.compile(rb"#[0-7]{3}")
_ESCAPE: Final = re.compile(rb"#([0-3][0-7]{2})")


def escape(message: bytes) -> bytes:
    """The message as a line without its LF."""
    if b"#" not in message and len(message.translate(None, _CONTROLS)) == len(message):
        return message
    return _SPECIAL.sub(lambda found: b"#%03o" % found[0][0], message)


def escape_all(messages: Sequence[bytes]) -> Sequence[bytes]:
    """The messages as lines without their LFs; one look finds whether any of them needs an escape."""
    return [escape(message) for message in messages] if joined(messages) is None else messages


def joined(messages: Sequence[bytes]) -> bytes | None:
    """The messages as lines with their LFs, in one piece; None when one of them needs an escape."""
    lines = b"\n".join((*messages, b""))
    if len(lines) - len(lines.translate(None, _CONTROLS)) != len(messages):
        return None
    return None if b"#" in lines and _ESCAPED_HASH.search(lines) else lines


def unescape(line: bytes) -> bytes:
    """The message whose line this is; the inverse of `escape`."""
    if b"#" not in line:
        return line
    return _ESCAPE.sub(lambda found: bytes((int(found[1], 8),)), line)
