"""The ledger beside each log file of the archive: JSON lines, chained by SHA-256. Pure.

A ledger begins with a `Heading`; a `FileChange` follows for each open day that another program changed. Each `Extent`
describes consecutive lines of the log that came from one sender in one commit. A `Closing` ends the day; a `Removal`
may follow it when retention has deleted the log.

    sha256 = SHA-256(previous line with its LF ‖ this line without its sha256 and its LF ‖ the extent's octets)

"This line without its sha256" is the line with `,"sha256":"…"` taken out. The octets are those of the uncompressed
log; only an extent has any. Before a heading, the previous line is the last line, except a `Removal`, of the ledger
that `after` names. Nothing precedes an originator's first heading.

All times are microseconds since the epoch.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

FORMAT: Final = 2
_HASH_KEY: Final = b',"sha256":"'
_HASH_SIZE: Final = len(_HASH_KEY) + 64 + len('"')
HASH_LENGTH: Final = len('""}\n') + 64
"""Octets at a line's end that hold its hash."""
_HASH: Final = re.compile(rb'"([0-9a-f]{64})"}\n\Z')
_ENCODER: Final = msgspec.json.Encoder()


class LedgerError(ValueError):
    """A line is not a ledger's; the text says why."""


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a ledger."""

    format: int = FORMAT
    originator: str
    """Its name as it was sent; octets that are not UTF-8 are written `\\xHH`."""
    log: str
    """The name of the log file while the day is open, in the same folder."""
    after: str | None
    """The ledger before this one, in the same folder; None: this is the originator's first."""
    sha256: str = ""


class Extent(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"sender": "from", "identity": "by"}
):
    """Consecutive lines of the log."""

    at: tuple[int, int]
    """First and last time of receipt."""
    sender: str
    """The peer's address."""
    identity: str | None
    """What was verified about the peer."""
    via: str
    """Listener and protocol."""
    off: int
    """Where the first line begins in the uncompressed log."""
    len: int
    """Octets with all LFs."""
    n: int
    """Lines, each one message."""
    time: tuple[int, int] | None = None
    """Earliest and latest time of the events; None: none of them has a usable time, so the time of receipt counts."""
    id: tuple[tuple[Any, ...], ...] = ()
    """Identities of relay's events: [run, type, first, last], or [run, type, number, number, part, parts]."""
    marks: dict[str, tuple[str, ...]] = {}
    """Line within the extent, counted from 0 ("3"), or first and last ("3-17") → its marks."""
    sha256: str = ""


class Closing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last line of a closed day."""

    closed: int
    len: int
    """Octets of the uncompressed log."""
    n: int
    time: tuple[int, int] | None = None
    """Earliest and latest time of the day's events without outliers; queries skip days by it."""
    outliers: tuple[tuple[int, int], ...] = ()
    """Spans of time of the few events that lie far outside `time`."""
    sha256: str = ""


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """The log of this day was deleted by retention."""

    removed: int
    cause: str
    """"age" or "size"."""
    sha256: str = ""


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """Another program changed the files of an open day, here or in an older ledger. They were given up."""

    changed: int
    """When the writer noticed it."""
    log: str
    """The path of that day's log, below the archive."""
    cause: str
    """What each file is: "the log is missing"."""
    left: tuple[int, int]
    """Octets of log and ledger as the writer left them."""
    head: str
    """The hash of the ledger's last line then; empty: unknown."""
    found: tuple[int | None, int | None]
    """The octets that were there; None: no file."""
    aside: tuple[str, ...] = ()
    """Copies of what was there, in `.relay/changed`."""
    sha256: str = ""


LedgerLine = Heading | Extent | Closing | Removal | FileChange

_EXTENT: Final = b'{"at":['
_EXTENTS: Final = msgspec.json.Decoder(Extent)
_OTHERS: Final[dict[bytes, msgspec.json.Decoder[LedgerLine]]] = {
    b'{"format"': msgspec.json.Decoder(Heading),
    b'{"closed"': msgspec.json.Decoder(Closing),
    b'{"removed"': msgspec.json.Decoder(Removal),
    b'{"changed"': msgspec.json.Decoder(FileChange),
}


def encode(line: LedgerLine, previous: bytes, octets: Iterable[bytes] = ()) -> bytes:
    """The line with its hash and LF. `previous` is the line before with its LF; b"" for an originator's first."""
    bare = _ENCODER.encode(msgspec.structs.replace(line, sha256=""))
    bare = bare.removesuffix(b',"sha256":""}').removesuffix(b"}") + b"}"
    digest = hashlib.sha256(previous + bare)
    for piece in octets:
        digest.update(piece)
    return b'%b%b%b"}\n' % (bare[:-1], _HASH_KEY, digest.hexdigest().encode())


def hash_of(line: bytes) -> str:
    """The hash at the end of a whole line; empty when it has none."""
    found = _HASH.search(line, max(len(line) - HASH_LENGTH, 0))
    return found[1].decode() if found else ""


def decode(line: bytes) -> LedgerLine:
    """Read a line, with or without its LF; LedgerError when it is not one. Its hash is not checked."""
    try:
        if line.startswith(_EXTENT):
            return _EXTENTS.decode(line)
        for begin, decoder in _OTHERS.items():
            if line.startswith(begin):
                return decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise LedgerError(str(error)) from None
    raise LedgerError("it does not begin as a line of a ledger")


def verifying(line: bytes, previous: bytes) -> "hashlib._Hash":
    """The digest to which the extent's octets are added; then its hexdigest is compared with the line's `sha256`."""
    line = line.removesuffix(b"\n")
    return hashlib.sha256(previous + line[: -_HASH_SIZE - 1] + b"}")
