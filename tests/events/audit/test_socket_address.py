"""Packed socket addresses, by examples and against auparse over everything that a seed makes."""

from random import Random

import pytest
from harness.auparse import read_records, resolved_pairs
from harness.records import record_of

from relay.events.audit.fields import Field, fields
from relay.events.audit.record import Record
from relay.events.audit.socket_address import FAMILIES, socket_address

HEAD = b"type=SOCKADDR msg=audit(1709742940.326:2351): saddr="
MORE_THAN_A_NAME = {b"ax25", b"atmpvc", b"x25"}
"""auparse tells more of them: AX.25 calls, ATM interfaces, X.25 addresses. Here their name is all."""
SINCE_4_0 = b"mctp"
"""Not in libaudit 3.0.9."""
KNOWN = (1, 1, 2, 2, 10, 10, 16, 17)
FUZZED = 3000


def packed(octets: bytes) -> bytes:
    return octets.hex().upper().encode()


def local(name: bytes) -> bytes:
    return packed(b"\1\0" + name)


@pytest.mark.parametrize(
    ("saddr", "expected"),
    [
        (b"020000097F0000010000000000000000", "saddr_fam=inet laddr=127.0.0.1 lport=9"),
        (b"0200FFFFC0000201", "saddr_fam=inet"),  # too short
        (b"0200FFFFC00002010000000000000000FFFF", "saddr_fam=inet laddr=192.0.2.1 lport=65535"),
        (b"0a0000350000000020010db800000000000000000000000100000000", "saddr_fam=inet6 laddr=2001:db8::1 lport=53"),
        (b"0A00003500000000FE80000000000000000000000000000140420F00", "saddr_fam=inet6 laddr=fe80::1%1000000 lport=53"),
        (
            b"0A0000350000000000000000000000000000FFFFC000020100000000",
            "saddr_fam=inet6 laddr=::ffff:192.0.2.1 lport=53",
        ),
        (b"0A00003500000000000000000000000000000000C000020100000000", "saddr_fam=inet6 laddr=::192.0.2.1 lport=53"),
        (b"0A00003500000000000000000000000000000000000000010000", "saddr_fam=inet6"),
        (local(b"/run/systemd/notify\0"), "saddr_fam=local path=/run/systemd/notify"),
        (local(b"/not/ended"), "saddr_fam=local path=/not/ended"),
        (local(b"\0abstract\0more"), "saddr_fam=local path=abstract"),
        (local(b"/" * 200), "saddr_fam=local path=" + "/" * 108),
        (local(b"\0\0"), "saddr_fam=local path="),
        (local(b"\0"), "saddr_fam=local"),
        (b"100000000700000000000000", "saddr_fam=netlink nlnk-fam=16 nlnk-pid=7"),
        (b"1000000007000000", "saddr_fam=netlink"),
        (b"1100000300000000000000000000000000000000", "saddr_fam=packet"),
        (b"0000", ""),
        (b"0002000000000000", ""),  # of a big-endian machine
        (b"4D00000000000000", ""),
        (b"02", "saddr_fam=inet"),
        (b"020", ""),
        (b"0G00", ""),
        (b"", ""),
    ],
)
def test_an_address_has_the_fields_of_the_enriched_format(saddr: bytes, expected: str) -> None:
    assert b" ".join(b"%b=%b" % pair for pair in socket_address(saddr)).decode() == expected


def test_a_local_name_may_hold_any_octets() -> None:
    assert socket_address(local(b"/a b }\n\xff='\"")) == [(b"saddr_fam", b"local"), (b"path", b"/a b }\n\xff='\"")]


def addresses(random: Random) -> list[bytes]:
    """Addresses of every family; mostly of the families with details, some too short, some too long."""
    every = [number.to_bytes(2, "little") + bytes(30) for number in range(70)]
    for _ in range(FUZZED):
        family = random.choice((*KNOWN, random.randrange(65536)))
        body = bytearray(random.randbytes(random.choice((0, 1, 2, 6, 13, 14, 15, 26, 27, 30, 110, 140))))
        for place in random.sample(range(len(body)), random.randrange(len(body) + 1)):
            body[place] = 0
        every.append(family.to_bytes(2, "little") + body)
    return [packed(each) for each in every]


def socket_record(saddr: bytes, resolved: bytes = b"") -> Record:
    return record_of(HEAD + saddr + resolved)


def test_it_is_auparses_interpretation() -> None:
    saddrs = addresses(Random(5))
    for saddr, (_, found) in zip(saddrs, read_records([HEAD + saddr for saddr in saddrs]), strict=True):
        text = {name: interpreted for name, _, interpreted in found}[b"saddr"]
        expected = resolved_pairs(text)
        if expected and expected[0][1] in MORE_THAN_A_NAME:
            expected = expected[:1]
        ours = [] if text == b"unknown-family(45)" else socket_address(saddr)
        assert ours == expected, (saddr, text)
        if expected and expected[0][1] not in MORE_THAN_A_NAME and b"\n" not in text:
            assert without_hex(socket_record(saddr)) == without_hex(socket_record(saddr, b"\x1dSADDR=" + text)), text


def without_hex(record: Record) -> list[Field]:
    return [field for field in fields(record) if field[0] != b"saddr"]


def test_the_families_are_libaudits() -> None:
    saddrs = [packed(number.to_bytes(2, "little") + bytes(30)) for number in range(256)]
    named = {
        number: resolved_pairs(found[-1][2])[0][1]
        for number, (_, found) in enumerate(read_records([HEAD + saddr for saddr in saddrs]))
        if found[-1][2].startswith(b"{ ")
    }
    assert {number: name for number, name in FAMILIES.items() if name != SINCE_4_0 or number in named} == named
