"""What auditd's dispatcher writes to its plugins: the records of a stream, as lines.

`format = string`: each record as auditd's log has it, and an LF. `format = binary`: before each record a header of four
32-bit numbers in the machine's own byte order (libaudit.h, struct audit_dispatcher_header): version, length of the
header (16), type of the record, length of the record. Version 0 gives the kernel's text without `type=… msg=`, which is
put before it here; version 1 gives the whole line. auditd 3.0.9 pads every record to 8,970 octets with what its memory
held (seen, and pinned by a test); a header that stands right after a record says that this auditd does not.

Which of the two it is shows at the beginning. A record of type EOE, which no log has, comes too. NULs at either end
of a record are padding.

Ceiling: a line of 1 MiB; a longer one comes in such pieces. A stream that is neither is a ProtocolError; what was
whole before that is given first.
"""

import struct
from typing import Final

from relay.errors import ProtocolError
from relay.events.audit.record import without_padding
from relay.events.audit.record_types import name_of

WHAT: Final = "auditd's dispatcher"
MAX_LINE: Final = 1 << 20
MAX_AUDIT_MESSAGE_LENGTH: Final = 8970
"""libaudit.h: what a binary record is padded to."""
_HEADER: Final = struct.Struct("=IIII")
_VERSIONS: Final = (0, 1)
_HIGHEST_TYPE: Final = 0xFFFF


class DispatcherDecoder:
    """Octets in, records out, for one stream."""

    def __init__(self) -> None:
        self.error: ProtocolError | None = None
        """What forbids to go on; what came before it was given."""
        self._data = bytearray()
        self._scanned = 0
        """So much of the data holds no LF."""
        self._binary: bool | None = None
        self._padding = 0
        """Octets that are still to come of a padded record."""
        self._padded: bool | None = None

    def receive(self, data: bytes) -> list[bytes]:
        """Take the next octets; the records that they complete, each without its LF."""
        self._data += data
        if self._binary is None:
            self._binary = _is_binary(self._data)
        records: list[bytes] = []
        if self._binary is None:
            return records
        if self._binary:
            while self.error is None and (record := self._next_binary()) is not None:
                records.append(record)
        else:
            records = self._lines()
        return records

    def finish(self) -> list[bytes]:
        """Take the stream's end: what is left of a last line without its LF."""
        rest = b"" if self._binary else bytes(self._data)
        self._data.clear()
        return [without_padding(rest)] if rest else []

    def _lines(self) -> list[bytes]:
        end = self._data.rfind(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._data)
            return self._pieces()
        lines = bytes(self._data[:end]).split(b"\n")
        del self._data[: end + 1]
        self._scanned = len(self._data)
        return list(map(without_padding, lines)) + self._pieces()

    def _pieces(self) -> list[bytes]:
        if len(self._data) < MAX_LINE:
            return []
        piece = bytes(self._data)
        self._data.clear()
        self._scanned = 0
        return [piece]

    def _next_binary(self) -> bytes | None:
        if not self._pass_padding():
            return None
        header = _header(self._data)
        if header is None:
            if len(self._data) >= _HEADER.size:
                self.error = ProtocolError(WHAT, "the stream is no longer what it was: no header where one must stand")
            return None
        version, kind, length = header
        if len(self._data) < _HEADER.size + length:
            return None
        body = bytes(self._data[_HEADER.size : _HEADER.size + length])
        del self._data[: _HEADER.size + length]
        self._padding = MAX_AUDIT_MESSAGE_LENGTH - length
        return without_padding(body if version else b"type=%b msg=%b" % (name_of(kind), body))

    def _pass_padding(self) -> bool:
        """Leave out what pads the record before; False: it is not all there yet."""
        if self._padding and self._padded is None and len(self._data) >= _HEADER.size:
            self._padded = _header(self._data) is None
        if self._padded is None:
            return not self._padding
        if self._padded:
            passed = min(self._padding, len(self._data))
            del self._data[:passed]
            self._padding -= passed
            return not self._padding
        return True


def _is_binary(data: bytearray) -> bool | None:
    """Whether a stream that begins so has headers; None: more of it is needed."""
    if len(data) < _HEADER.size:
        return False if data and data[0] not in _VERSIONS else None
    return _header(data) is not None


def _header(data: bytearray) -> tuple[int, int, int] | None:
    """Read version, type and length of the record that begins here; None when none does."""
    if len(data) < _HEADER.size:
        return None
    version, size, kind, length = _HEADER.unpack_from(data)
    legal = version in _VERSIONS and size == _HEADER.size and kind <= _HIGHEST_TYPE
    return (version, kind, length) if legal and length <= MAX_AUDIT_MESSAGE_LENGTH else None
