"""The stream that auditd's dispatcher writes to its plugins, as lines of one record each.

`format = string`: each record as in auditd's log, and an LF. `format = binary`: before each record a header of four
32-bit numbers in the machine's own byte order (libaudit.h, struct audit_dispatcher_header): version, length of the
header (16), type of the record, length of the record. Version 0 has the kernel's text without `type=… msg=`, which is
added here; version 1 has the whole line. auditd 3.0.9 pads every record to 8,970 octets with the old contents of its
memory (seen, and pinned by a test). A header directly behind a record shows that this auditd does not pad.

The beginning of the stream shows the format. Records of type EOE, which no log has, occur too. NULs at either end of a
record are padding.

Ceiling: a line of 1 MiB; a longer line comes in pieces of that size. Any other stream is a ProtocolError; the whole
records before the error are returned first.
"""

import struct
from typing import Final

from relay.errors import ProtocolError
from relay.events.audit.record import without_padding
from relay.events.audit.record_types import name_of

WHAT: Final = "auditd's dispatcher"
MAX_LINE: Final = 1 << 20
MAX_AUDIT_MESSAGE_LENGTH: Final = 8970
"""libaudit.h: the length of a padded binary record."""
_HEADER: Final = struct.Struct("=IIII")
_VERSIONS: Final = (0, 1)
_HIGHEST_TYPE: Final = 0xFFFF


class DispatcherDecoder:
    """Octets in, records out, for one stream."""

    def __init__(self) -> None:
        self.error: ProtocolError | None = None
        """Why the stream cannot be read on; the records before the error were returned."""
        self._data = bytearray()
        self._scanned = 0
        """So many octets of the data hold no LF."""
        self._binary: bool | None = None
        self._padding = 0
        """Octets of padding behind the last record that have not come yet."""
        self._padded: bool | None = None

    def receive(self, data: bytes) -> list[bytes]:
        """Decode the next octets; the records that they complete, each without its LF."""
        self._data += data
        if self._binary is None:
            header = _header(self._data)
            if len(self._data) >= _HEADER.size:
                self._binary = header is not None
            elif self._data and self._data[0] not in _VERSIONS:
                self._binary = False
        if self._binary:
            records: list[bytes] = []
            while self.error is None and (record := self._next_binary()) is not None:
                records.append(record)
            return records
        return [] if self._binary is None else self._lines()

    def finish(self) -> list[bytes]:
        """Note the end of the stream; the last line, if it has no LF."""
        rest = b"" if self._binary else bytes(self._data)
        self._data.clear()
        return [without_padding(rest)] if rest else []

    def _lines(self) -> list[bytes]:
        records: list[bytes] = []
        end = self._data.rfind(b"\n", self._scanned)
        if end >= 0:
            records = [without_padding(line) for line in bytes(self._data[:end]).split(b"\n")]
            del self._data[: end + 1]
        self._scanned = len(self._data)
        if len(self._data) >= MAX_LINE:
            records.append(bytes(self._data))
            self._data.clear()
            self._scanned = 0
        return records

    def _next_binary(self) -> bytes | None:
        if self._padding and self._padded is None and len(self._data) >= _HEADER.size:
            self._padded = _header(self._data) is None
        if self._padded:
            skipped = min(self._padding, len(self._data))
            del self._data[:skipped]
            self._padding -= skipped
        if self._padding and self._padded is not False:  # the padding of the record before is not complete yet
            return None
        header = _header(self._data)
        if header is None:
            if len(self._data) >= _HEADER.size:
                self.error = ProtocolError(WHAT, "the stream has no header where one is required")
            return None
        version, kind, length = header
        if len(self._data) < _HEADER.size + length:
            return None
        body = bytes(self._data[_HEADER.size : _HEADER.size + length])
        del self._data[: _HEADER.size + length]
        self._padding = MAX_AUDIT_MESSAGE_LENGTH - length
        return without_padding(body if version else b"type=%b msg=%b" % (name_of(kind), body))


def _header(data: bytearray) -> tuple[int, int, int] | None:
    """Parse version, type and length of the record that begins here; None when no header does."""
    if len(data) < _HEADER.size:
        return None
    version, size, kind, length = _HEADER.unpack_from(data)
    legal = version in _VERSIONS and size == _HEADER.size and kind <= _HIGHEST_TYPE
    return (version, kind, length) if legal and length <= MAX_AUDIT_MESSAGE_LENGTH else None
