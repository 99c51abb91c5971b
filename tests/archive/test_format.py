"""The files of an archive, octet for octet as FORMAT.md describes them."""

import hashlib
import json
from pathlib import Path

import pytest
from archive.messages import DAY_US, NOON_US
from archive.plain_reader import read_archive

from relay.archive.writer import open_days
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.values.provenance import Provenance, ReceiptMark

ROUTER = Provenance("192.0.2.7", "SHA256:abc", "ssh://0.0.0.0:2222")
SWITCH = Provenance("192.0.2.8", "", "udp://0.0.0.0:514")
OWN = b'<109>1 2024-03-06T12:00:00Z fw1 auditd - LOGIN [128T relayRun="5f" relaySeq="%d" type="audit"] type=LOGIN\nCWD'


def chained(bare: bytes, previous: bytes, octets: bytes = b"") -> bytes:
    return bare[:-1] + b',"sha256":"%b"}\n' % hashlib.sha256(previous + bare + octets).hexdigest().encode()


def test_the_octets_of_two_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_days, "wall_clock", lambda: NOON_US + DAY_US)
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        writer.write_all([OWN % 1, OWN % 2], NOON_US, ROUTER)
        writer.write(b"fw1 says #043 \x7f", NOON_US + 1, SWITCH, ReceiptMark.CUT)
        writer.write(b"<13>1 2024-03-06T12:00:05Z fw1 app - - - by UDP", NOON_US + 2, SWITCH)
        writer.write(OWN % 3, NOON_US + 3, ROUTER)
        writer.commit(b"1")
        writer.write(OWN % 4, NOON_US + DAY_US, ROUTER)
        writer.commit(b"2")
    first = tmp_path / "fw1" / "2024-03-06.ledger"
    log = first.with_suffix(".log").read_bytes()
    line = b'<109>1 2024-03-06T12:00:00Z fw1 auditd - LOGIN [128T relayRun="5f" relaySeq="%d" type="audit"] '
    line += b"type=LOGIN#012CWD\n"
    router, switch = line % 1 + line % 2 + line % 3, b"<13>1 2024-03-06T12:00:05Z fw1 app - - - by UDP\n"
    assert log == router + switch
    heading = chained(b'{"format":2,"originator":"fw1","log":"2024-03-06.log","after":null}', b"")
    one = chained(
        b'{"at":[1709726400000000,1709726400000003],"from":"192.0.2.7","by":"SHA256:abc",'
        b'"via":"ssh://0.0.0.0:2222 syslog","off":0,"len":%d,"n":3,"time":[1709726400000000,1709726400000000],'
        b'"id":[["5f","audit",1,3]]}' % len(router),
        heading,
        router,
    )
    two = chained(
        b'{"at":[1709726400000002,1709726400000002],"from":"192.0.2.8","by":null,"via":"udp://0.0.0.0:514 syslog",'
        b'"off":%d,"len":%d,"n":1,"time":[1709726405000000,1709726405000000]}' % (len(router), len(switch)),
        one,
        switch,
    )
    closing = chained(
        b'{"closed":1709812800000000,"len":%d,"n":4,"time":[1709726400000000,1709726405000000]}' % len(log), two
    )
    assert first.read_bytes() == heading + one + two + closing
    second = (tmp_path / "fw1" / "2024-03-07.ledger").read_bytes().splitlines(keepends=True)
    bare = b'{"format":2,"originator":"fw1","log":"2024-03-07.log","after":"2024-03-06.ledger"}'
    assert second[0] == chained(bare, closing)
    other = tmp_path / "192.0.2.8" / "2024-03-06"
    assert other.with_suffix(".log").read_bytes() == b"fw1 says #043043 #177\n"
    extent = json.loads(other.with_suffix(".ledger").read_bytes().splitlines()[1])
    assert extent["marks"] == {"0": ["cut", "no-pri", "no-time", "no-host"]}
    assert len(read_archive(tmp_path)) == 6
