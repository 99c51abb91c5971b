"""The index of stored identities has ceilings, and costs no more than its ledgers' size."""

import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from relay.archive import ledger
from relay.archive.ledger import Extent
from relay.archive.writer import stored_identities
from relay.archive.writer.stored_identities import StoredIdentities
from relay.syslog.rfc5424 import Identity
from relay.system.disk import Disk

IdentityRange = tuple[str | int, ...]


def write_ledger(
    archive: Path, folder: str, extents: Sequence[tuple[str, str | None, Sequence[IdentityRange]]]
) -> None:
    """A ledger of one day: of each extent its sender, its verified identity, and its ranges."""
    (archive / folder).mkdir(parents=True)
    lines = [
        ledger.encode(
            Extent(
                at=(1, 1),
                sender=sender,
                identity=identity,
                via="tcp://0:1 syslog",
                off=100 * index,
                len=100,
                n=1,
                id=tuple(ranges),
            ),
            b"",
            [b""],
        )
        for index, (sender, identity, ranges) in enumerate(extents)
    ]
    (archive / folder / "2026-12-01.ledger").write_bytes(b"".join(lines))


def found(stored: StoredIdentities, folder: str, identity: Identity) -> list[int]:
    """Where the extents with this identity begin."""
    return [place.off for place in stored.find((folder,), identity, 1 << 30)]


def test_a_strangers_runs_leave_room_for_those_of_a_verified_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_identities, "MAX_KEYS", 100)
    strangers = [(f"192.0.2.{number % 250}", None, [(f"{number:x}", "audit", 1, 1)]) for number in range(1000)]
    router = ("198.51.100.1", "SHA256:key", [("fade", "audit", 1, 7)])
    write_ledger(tmp_path, "fw1", [*strangers, router])
    stored = StoredIdentities(Disk(), str(tmp_path))
    assert found(stored, "fw1", Identity(b"fade", b"audit", 7, 1, 1)) == [100_000]
    assert found(stored, "fw1", Identity(b"0", b"audit", 1, 1, 1)) == [0]
    assert found(stored, "fw1", Identity(b"3e7", b"audit", 1, 1, 1)) == []


def test_memory_of_an_index_is_not_more_than_its_estimate(tmp_path: Path) -> None:
    senders = (f"10.0.{number // 250}.{number % 250}" for number in range(20_000))
    write_ledger(tmp_path, "fw1", [(each, None, [(each, "audit", 1, 1)]) for each in senders])
    stored = StoredIdentities(Disk(), str(tmp_path))
    tracemalloc.start()
    found(stored, "fw1", Identity(b"10.0.0.0", b"audit", 1, 1, 1))
    octets, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert octets < stored._octets <= 11_000 * stored_identities.KEY_OCTETS


def test_few_ledgers_are_kept_where_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_identities, "MAX_OCTETS", 5_000)
    stored = StoredIdentities(Disk(), str(tmp_path))
    for name in ("fw1", "fw2", "fw3", "fw4"):
        write_ledger(tmp_path, name, [("192.0.2.1", None, [(f"{n:x}", "audit", 1, 1)]) for n in range(3)])
        found(stored, name, Identity(b"0", b"audit", 1, 1, 1))
    assert list(stored._indexes) == ["fw4/2026-12-01.ledger"]


def test_falling_numbers_and_parts_take_linear_time(tmp_path: Path) -> None:
    """Each range, and all parts, were moved for every number that is lower than the one before."""
    count = 20_000
    ranges: list[IdentityRange] = [("fade", "audit", count - n, count - n, 1, 2) for n in range(count)]
    write_ledger(tmp_path, "fw1", [("192.0.2.1", None, ranges[begin : begin + 500]) for begin in range(0, count, 500)])
    stored = StoredIdentities(Disk(), str(tmp_path))
    begun = time.process_time()
    assert found(stored, "fw1", Identity(b"fade", b"audit", 1, 1, 2)) == [3900]
    assert found(stored, "fw1", Identity(b"fade", b"audit", count, 1, 2)) == [0]
    assert time.process_time() - begun < 2
