"""A ledger in both directions, whole, being written and damaged."""

from pathlib import Path

import pytest
from harness.made_archive import MadeDay

from relay.archive.ledger import Extent
from relay.archive.ledgers.ledger_reader import LedgerReader
from relay.errors import NoInputError


def made(folder: Path, extents: int = 7) -> Path:
    day = MadeDay("fw1", "2026-11-30")
    for number in range(extents):
        day.extent(number, [b"<13>1 - fw1 - - - - %d" % number] * (number + 1))
    day.close(99)
    day.remove(100)
    return day.save(folder) / "2026-11-30.ledger"


@pytest.mark.parametrize("chunk", [1, 7, 100, 1000, 65_536])
def test_both_directions_give_the_same_extents(tmp_path: Path, chunk: int) -> None:
    path = made(tmp_path)
    for tail in (b"", b'{"at":[', b"x" * 300):
        path.write_bytes(path.read_bytes() + tail)
        reader = LedgerReader(str(path), chunk=chunk)
        assert [extent.n for extent in reader.extents()] == list(range(1, 8))
        assert list(reader.extents_backward()) == list(reader.extents())[::-1]
        heading, end = reader.heading(), reader.end()
        assert heading is not None
        assert end.closing is not None
        assert end.removal is not None
        assert (heading.originator, end.closing.n, end.removal.removed) == ("fw1", 28, 100)


def test_damage_is_skipped_and_reported_by_its_offset(tmp_path: Path) -> None:
    path = made(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2:4] = [b"\xff\x00garbage\n", lines[2][:50] + b"\n", lines[3]]
    path.write_bytes(b"".join(lines))
    flaws: list[int] = []
    reader = LedgerReader(str(path), flaw=lambda offset, _: flaws.append(offset))
    assert [extent.n for extent in reader.extents()] == [1, 3, 4, 5, 6, 7]
    assert flaws == [len(lines[0] + lines[1]), len(b"".join(lines[:3]))]
    assert sorted(extent.n for extent in reader.extents_backward()) == [1, 3, 4, 5, 6, 7]


def test_reading_continues_where_a_line_ended(tmp_path: Path) -> None:
    reader = LedgerReader(str(made(tmp_path)))
    ends = [end for end, line in reader.entries() if isinstance(line, Extent)]
    assert [line.n for _, line in reader.entries(ends[4]) if isinstance(line, Extent)] == [6, 7]


def test_an_absent_and_an_empty_ledger(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="No such file"):
        LedgerReader(str(tmp_path / "2026-11-30.ledger")).end()
    (tmp_path / "2026-11-30.ledger").write_bytes(b"")
    reader = LedgerReader(str(tmp_path / "2026-11-30.ledger"))
    assert (reader.heading(), reader.end(), list(reader.extents_backward())) == (None, (None, None), [])
