"""The folder of an originator: its HOSTNAME (RFC 5424, section 6.2.4) made safe as a file name.

HOSTNAME is whatever a sender wrote. Octets other than `A-Z a-z 0-9 . _ -`, and a leading dot, become `%XX`, so that
no name leaves the archive, is hidden, or equals another's. A name over 128 characters is cut and ends in `~` and 16
hex digits of its SHA-256; `~` occurs in no other name. Messages without a HOSTNAME share the folder `-`.
"""

import hashlib
import re

NAMELESS = "-"
MAX_NAME = 128
_DIGEST = 16
_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]|\A\.")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def folder_name(hostname: bytes | None) -> str:
    """The folder's name, at most 128 ASCII characters."""
    if not hostname:
        return NAMELESS
    name = _UNSAFE.sub(lambda unsafe: b"%%%02X" % unsafe[0][0], hostname).decode("ascii")
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - _DIGEST - 1]}~{hashlib.sha256(hostname).hexdigest()[:_DIGEST]}"


def is_folder_of(folder: str, originator: str) -> bool:
    r"""Whether a folder of this name belongs to the originator that a ledger's heading names.

    The heading writes octets that are not UTF-8 as `\xHH`.
    """
    octets = originator.encode()
    unescaped = _ESCAPED.sub(lambda escaped: bytes((int(escaped[1], 16),)), octets)
    return folder in {originator, folder_name(octets), folder_name(unescaped)}
