"""Against auparse and libaudit themselves. `other.log` holds kinds of records that the seed lacks."""

from pathlib import Path

from harness.auparse import assert_read_as_auparse_reads, read_records, type_numbers

from relay.events.audit.fields import UNTRUSTED
from relay.events.audit.record_types import NUMBERS

SINCE_4_0 = {b"DM_CTRL", b"DM_EVENT"}
"""Not in libaudit 3.0.9."""


def test_records_are_read_as_auparse_reads_them(seed_lines: list[bytes]) -> None:
    other_lines = (Path(__file__).parent / "other.log").read_bytes().removesuffix(b"\n").split(b"\n")
    assert_read_as_auparse_reads([*seed_lines, *other_lines])


def test_each_untrusted_field_is_one_that_auparse_decodes() -> None:
    names = sorted(UNTRUSTED)
    lines = [b"type=SYSCALL msg=audit(1709742940.326:2349): %b=68656C6C6F z=1" % name for name in names]
    assert [(found[1][0], found[1][2].strip(b'"')) for _, found in read_records(lines)] == [
        (name, b"hello") for name in names
    ]


def test_the_table_of_types_is_that_of_the_newest_libaudit() -> None:
    known = type_numbers()
    assert {name: number for name, number in NUMBERS.items() if name not in SINCE_4_0 or name in known} == known
