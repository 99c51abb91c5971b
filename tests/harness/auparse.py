"""The fields that auparse and libaudit read in records: the oracle for relay's.

A child process asks them, in the one Python that can certainly load them: Debian's own.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from harness.debian import AUPARSE, fetch
from relay.events.audit.fields import UNTRUSTED, fields
from relay.events.audit.record import Key, Record, parse

LOCAL_PATH = b"{ saddr_fam=local path="

_READ_RECORDS = """
# By libauparse itself: its Python module cannot return octets that are not UTF-8.
import ctypes, json, sys
lib = ctypes.CDLL("libauparse.so.0")
AUSOURCE_BUFFER = 3
lib.auparse_init.restype = ctypes.c_void_p
lib.auparse_init.argtypes = [ctypes.c_int, ctypes.c_char_p]
lib.auparse_set_escape_mode.argtypes = [ctypes.c_void_p, ctypes.c_int]
AUPARSE_ESC_RAW = 0
lib.auparse_get_time.restype = ctypes.c_long
lib.auparse_get_milli.restype = ctypes.c_uint
lib.auparse_get_serial.restype = ctypes.c_ulong
for name in ("get_node", "get_field_name", "get_field_str", "interpret_field"):
    getattr(lib, "auparse_" + name).restype = ctypes.c_char_p
for line in sys.stdin.buffer.read().split(b"\\n"):
    parser = ctypes.c_void_p(lib.auparse_init(AUSOURCE_BUFFER, line + b"\\n"))
    lib.auparse_set_escape_mode(parser, AUPARSE_ESC_RAW)
    assert lib.auparse_next_event(parser) > 0 and lib.auparse_first_record(parser) > 0, line
    found = []
    while True:
        texts = (lib.auparse_get_field_name, lib.auparse_get_field_str, lib.auparse_interpret_field)
        found.append([(ask(parser) or b"").hex() for ask in texts])
        if lib.auparse_next_field(parser) < 1:
            break
    time = lib.auparse_get_time(parser) * 1000 + lib.auparse_get_milli(parser)
    print(json.dumps([time, lib.auparse_get_serial(parser), (lib.auparse_get_node(parser) or b"").hex(), found]))
    lib.auparse_destroy(parser)
"""
_READ_TYPES = """
import audit, json
names = {number: audit.audit_msg_type_to_name(number) for number in range(4000)}
print(json.dumps({name: number for number, name in names.items() if name}))
"""


def ask_debian(program: str, stdin: bytes = b"") -> list[Any]:
    """Run a program under Debian's Python with the unpacked libraries; each line of its output is JSON."""
    root = fetch(AUPARSE)
    modules = Path(root.file("usr/lib/python3/dist-packages/audit.py")).parent
    done = subprocess.run(
        ["/usr/bin/python3", "-c", program],
        input=stdin,
        env={**root.environment(), "PYTHONPATH": str(modules)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def read_records(lines: list[bytes]) -> list[tuple[Key, list[tuple[bytes, bytes, bytes]]]]:
    """What auparse finds in each line: its key; and name, value and interpretation of each field."""
    unhex = bytes.fromhex
    return [
        ((time, serial, unhex(node)), [(unhex(name), unhex(raw), unhex(text)) for name, raw, text in found])
        for time, serial, node, found in ask_debian(_READ_RECORDS, b"\n".join(lines))
    ]


def type_numbers() -> dict[bytes, int]:
    """The record types that libaudit has a name for."""
    (names,) = ask_debian(_READ_TYPES)
    return {name.encode(): number for name, number in names.items()}


def as_auparse_reads(record: Record, found: list[tuple[bytes, bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields in our form: untrusted ones decoded, quotes removed, what means no value left out."""
    result = []
    resolved = []
    for name, raw, interpreted in found:
        if name in {b"type", b"node", b"seresult", b"seperms"}:  # auparse takes these from outside the pairs
            continue
        is_argument = record.type == b"EXECVE" and name != b"argc"
        value = interpreted if name in UNTRUSTED or is_argument else raw.strip(b'"')
        if value not in {b"?", b"(null)", b"(none)"}:
            result.append((name, value))
        if record.type == b"SOCKADDR" and name == b"saddr":
            resolved += resolved_pairs(interpreted)
    return result + resolved


def resolved_pairs(text: bytes) -> list[tuple[bytes, bytes]]:
    """Return the pairs in the interpretation of a `saddr`, as in the ENRICHED format; none without a family."""
    if text.startswith(LOCAL_PATH):
        return [(b"saddr_fam", b"local"), (b"path", text.removeprefix(LOCAL_PATH).removesuffix(b" }"))]
    return re.findall(rb" ([a-z_-]+)=([^ ]+)", text) if text.startswith(b"{ ") else []


def _head(record: Record) -> bytes:
    return record.line.removesuffix(record.body)


def assert_read_as_auparse_reads(lines: list[bytes]) -> None:
    """Every line is a record, with the key and the fields that auparse finds in it."""
    records = [record for line in lines if (record := parse(line)) is not None]
    assert len(records) == len(lines)
    for record, (key, found) in zip(records, read_records(lines), strict=True):
        assert record.key == key
        assert not record.joined
        body = record.body.partition(b"\x1d")[
            0
        ]  # auparse interprets by what auditd resolved, and gives no fields of it
        assert fields(record._replace(body=body, line=_head(record) + body)) == as_auparse_reads(record, found), record
