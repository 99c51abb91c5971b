"""The fields of a record: `name=value` pairs, decoded.

A value is bare, or in double quotes. An inner body in single quotes (`msg='op=login res=success'`) or braces
(`SADDR={ … }`) is read as if it were outside. Pairs follow a space, `(`, a single quote or the octet 0x1d that begins
the resolved names of auditd's ENRICHED format. Everything else is free text and skipped
(`avc:  denied  { read } for  pid=7`), as are the commas and the closing bracket that old records put after a
value. A name has at most 64 octets.

Fields that untrusted users control are decoded when they are unquoted upper-case hex of even length: that is how the
kernel and libaudit write values with a space, a quote or a control octet. PROCTITLE and the arguments of EXECVE have
NUL for the space between arguments. `key` holds the keys of every rule that matched, joined by the octet 0x01: each key
is a field of its own, as in auparse. `saddr` stays unchanged, because a packed structure is not text. Its contents
follow as fields of their own, in the RAW format (`socket_address`) as in the ENRICHED one.

Values are octets of any kind. `(null)`, `(none)` and `?`, quoted or not, mean that the value is missing, and are not a
field. Reading takes time linear in the body, whatever it holds.
"""

import re
from binascii import unhexlify
from collections.abc import Mapping
from typing import Final, TypeAlias

from relay.events.audit.record import Record
from relay.events.audit.socket_address import socket_address

Field: TypeAlias = tuple[bytes, bytes]

UNTRUSTED: Final = frozenset(
    b"acct apparmor cgroup cmd comm cwd data denied_mask device dir exe file grp info invalid_context key name"
    b" new-chardev new-disk new-fs new-net new-rng new_group ocomm old-chardev old-disk old-fs old-net old-rng"
    b" operation path proctitle profile requested_mask root_dir sw vm watch".split()
)
"""The fields that auparse 3.0.9 decodes in every type of record (tried with each name that its library holds)."""

_NO_VALUE: Final = frozenset((b"?", b"(null)", b"(none)"))

_PAIR = re.compile(
    rb"[ ('\x1d]([^ =()'\"{},\x1d]{1,64}+)=(?!\?[ \x1d])"  # most pairs without a value are skipped here already
    rb'(?:"([^"]*+)"|'
    rb"(?!['{])([^ ()'\",\x1d]*+"
    # A bracket, a comma or a quote belongs to a bare value only when it is closed, or the value goes on after it.
    rb"(?:(?=[(),'])(?:\((?:[^ ()'\"\x1d]*+\))?|[,)]++(?=[^ ,()'\"\x1d])|'(?=[^ '\x1d]))[^ ()'\",\x1d]*+)*))"
)
_pairs = _PAIR.findall
_HEX = re.compile(rb"(?:[0-9A-F]{2})++")
_REMEMBERED_NAMES: Final = 512
_RESOLVED: Final = b"\x1d"
_BETWEEN_KEYS: Final = b"\x01"
"""libaudit.h, AUDIT_KEY_SEPARATOR."""
_LOCAL_PATH: Final = b"\x1dSADDR={ saddr_fam=local path="
_ARGUMENT = re.compile(rb"a[0-9]+(?:\[[0-9]+\])?")


class _Names(dict[bytes, bytes]):
    """Maps each name to itself; remembers up to a ceiling, then forgets all."""

    def __missing__(self, name: bytes) -> bytes:
        if len(self) >= _REMEMBERED_NAMES:
            self.clear()
        self[name] = name
        return name


_NAMES: Final = _Names()


def fields(record: Record) -> list[Field]:
    """Return name and decoded value of each field, in order; a name may occur twice."""
    return _of_socket_address(record) if record.type == b"SOCKADDR" else _named(record)


def labelled(record: Record, labels: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the label of each field and its decoded value in turn: one list, ready to be joined."""
    if record.type == b"SOCKADDR":
        return [text for name, value in _of_socket_address(record) for text in (labels[name], value)]
    return _of_pairs(record, labels)


def _of_pairs(record: Record, labels: Mapping[bytes, bytes]) -> list[bytes]:
    end = len(record.line) - len(record.joined)
    # From the space before the body, because every pair needs one before it.
    found = _pairs(record.line, end - len(record.body) - 1, end)
    is_execve = record.type == b"EXECVE"
    result: list[bytes] = []
    for name, quoted, bare in found:
        if not bare:
            if quoted not in _NO_VALUE:
                result += labels[name], quoted
        elif (name in UNTRUSTED or (is_execve and _ARGUMENT.fullmatch(name))) and _HEX.fullmatch(bare):
            value = unhexlify(bare)
            if name == b"key":
                result += [text for key in value.split(_BETWEEN_KEYS) if key for text in (labels[name], key)]
                continue
            result += labels[name], value.replace(b"\0", b" ") if is_execve or name == b"proctitle" else value
        elif bare not in _NO_VALUE:
            result += labels[name], bare
    return result


def _of_socket_address(record: Record) -> list[Field]:
    if _LOCAL_PATH in record.body:
        # Read the resolved name of a unix socket to its end, because its owner may have put pairs into it.
        before, _, path = record.body.partition(_LOCAL_PATH)
        end = len(record.line) - len(record.joined)
        found = _named(record._replace(body=before, line=record.line[: end - len(record.body)] + before, joined=b""))
        return [*found, (b"saddr_fam", b"local"), (b"path", path.removesuffix(b" }"))]
    found = _named(record)
    if _RESOLVED not in record.body:
        found += [field for name, value in found if name == b"saddr" for field in socket_address(value)]
    return found


def _named(record: Record) -> list[Field]:
    flat = _of_pairs(record, _NAMES)
    return list(zip(flat[::2], flat[1::2], strict=True))
