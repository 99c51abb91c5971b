"""Against auparse and libaudit themselves, in a child process of the one Python that can load them: Debian's own.

`other.log` holds kinds of records that the seed lacks.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from harness.debian import Component, fetch

from relay.audit.fields import UNTRUSTED, fields
from relay.audit.record import Record, parse
from relay.audit.record_types import NUMBERS

AUPARSE = Component(name="python3-audit", packages=("python3-audit", "libaudit1", "libauparse0"))

READ_RECORDS = """
import auparse, json, sys
for line in sys.stdin.buffer.read().split(b"\\n"):
    reader = auparse.AuParser(auparse.AUSOURCE_BUFFER, line.decode() + "\\n")
    assert reader.parse_next_event() and reader.first_record(), line
    found = []
    while True:
        found.append([reader.get_field_name(), reader.get_field_str(), reader.interpret_field()])
        if not reader.next_field():
            break
    stamp = reader.get_timestamp()
    print(json.dumps([stamp.sec * 1000 + stamp.milli, stamp.serial, stamp.host or "", found]))
"""
READ_TYPES = """
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


def as_auparse_reads(record: Record, found: list[list[str]]) -> list[tuple[bytes, bytes]]:
    """The fields in our form: untrusted ones decoded, quotes removed, what means no value left out."""
    result = []
    for name, raw, interpreted in found:
        if name in {"type", "node", "seresult", "seperms"}:  # what it takes from outside the pairs
            continue
        is_argument = record.type == b"EXECVE" and name != "argc"
        is_decoded = name.encode() in UNTRUSTED or is_argument
        value = interpreted if is_decoded else raw.strip('"')
        if value not in {"?", "(null)", "(none)"}:
            result.append((name.encode(), value.encode()))
    return result


def test_records_are_read_as_auparse_reads_them(seed_lines: list[bytes]) -> None:
    other_lines = (Path(__file__).parent / "other.log").read_bytes().removesuffix(b"\n").split(b"\n")
    records = [record for line in (*seed_lines, *other_lines) if (record := parse(line)) is not None]
    assert len(records) == len(seed_lines) + len(other_lines)
    answers = ask_debian(READ_RECORDS, b"\n".join(record.line for record in records))
    for record, (time, serial, node, found) in zip(records, answers, strict=True):
        assert record.key == (time, serial, node.encode())
        assert fields(record) == as_auparse_reads(record, found)


def test_each_untrusted_field_is_one_that_auparse_decodes() -> None:
    names = sorted(UNTRUSTED)
    lines = [b"type=SYSCALL msg=audit(1709742940.326:2349): %b=68656C6C6F z=1" % name for name in names]
    answers = ask_debian(READ_RECORDS, b"\n".join(lines))
    assert [(found[1][0].encode(), found[1][2].strip('"')) for *_, found in answers] == [
        (name, "hello") for name in names
    ]


def test_the_table_of_types_is_libaudits() -> None:
    (names,) = ask_debian(READ_TYPES)
    assert {name.encode(): number for name, number in names.items()} == NUMBERS
