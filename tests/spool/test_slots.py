"""Slots survive torn writes, and are written in place on a full disk."""

from pathlib import Path

import msgspec
import pytest

from relay.errors import DataError, StorageError
from relay.spool.both_spools import BothSpools
from relay.spool.cursor import Cursor
from relay.spool.slots import COPY_LENGTH, SLOTS, Slots
from relay.system.disk import Disk


def test_a_value_is_there_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "slots")
    slots = Slots(Disk(), path)
    for number in range(5):
        slots.put("cursor a", b"value %d" % number)
    slots.put("cursor b", b"other")
    slots.close()
    again = Slots(Disk(), path)
    assert (again.get("cursor a"), again.get("cursor b"), again.get("cursor c")) == (b"value 4", b"other", None)
    assert again.keys() == ["cursor a", "cursor b"]


@pytest.mark.parametrize("octets", [1, 8, 12, 30, 511, 512, 4095])
def test_a_torn_write_leaves_the_value_before_it(tmp_path: Path, octets: int) -> None:
    """A write that stopped after some octets: the older copy of the slot speaks."""
    path = tmp_path / "slots"
    slots = Slots(Disk(), str(path))
    slots.put("a", b"first" * 200)
    slots.put("a", b"second" * 200)
    before = path.read_bytes()
    slots.put("a", b"third!" * 600)
    after = path.read_bytes()
    slots.close()
    place = next(at for at in (0, COPY_LENGTH) if before[at : at + 4096] != after[at : at + 4096])
    torn = bytearray(before)
    torn[place : place + octets] = after[place : place + octets]
    path.write_bytes(torn)
    expected = b"third!" * 600 if octets >= 28 + 3601 else b"second" * 200
    assert Slots(Disk(), str(path)).get("a") == expected


def test_writing_never_makes_the_file_longer(tmp_path: Path) -> None:
    path = tmp_path / "slots"
    slots = Slots(Disk(), str(path))
    size = path.stat().st_size
    blocks = path.stat().st_blocks
    for number in range(SLOTS):
        slots.put(f"slot {number}", b"x" * 3000)
    assert (path.stat().st_size, path.stat().st_blocks) == (size, blocks)
    with pytest.raises(StorageError, match="64 slots are taken"):
        slots.put("one more", b"x")
    slots.remove("slot 3")
    slots.put("one more", b"x")
    assert Slots(Disk(), str(path)).get("slot 3") is None
    assert Slots(Disk(), str(path)).get("one more") == b"x"


def test_a_value_too_long_for_a_slot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not fit"):
        Slots(Disk(), str(tmp_path / "slots")).put("a", bytes(5000))


def test_an_unreadable_cursor_counts_as_a_new_one() -> None:
    assert Cursor.decode(Cursor(retained=7, transient=3, proof="drained").encode()).retained == 7
    assert Cursor.decode(b"\xff garbage") == Cursor()


def test_a_cursor_of_an_older_version_has_no_part_of_a_block_and_no_server() -> None:
    read = Cursor.decode(b'{"retained":7,"transient":3,"proven_at":5,"proof":"drained","delivered":9}')
    assert read == Cursor(retained=7, transient=3, proven_at=5, proof="drained", delivered=9)
    assert (read.retained_part, read.transient_part, read.server) == (0, 0, "")


def test_a_cursor_keeps_its_place_within_a_block() -> None:
    cursor = Cursor(retained=7, retained_part=40, transient=3, transient_part=2, server="relp 192.0.2.1:20514")
    assert Cursor.decode(cursor.encode()) == cursor
    assert cursor.at(BothSpools((7, 41), (3, 2))).reached.retained > cursor.reached.retained
    assert cursor.at(BothSpools((8, 0), (3, 2))).reached.retained > cursor.reached.retained


class OlderCursor(msgspec.Struct, frozen=True, kw_only=True):
    """As relay had it before there were places within a block."""

    retained: int = 1
    transient: int = 1
    proven_at: int = 0
    proof: str = ""
    delivered: int = 0


def test_an_older_version_repeats_the_part_of_the_block_and_loses_nothing() -> None:
    new = Cursor(retained=7, retained_part=40, transient=3, delivered=9, server="relp 192.0.2.1:20514")
    assert msgspec.json.decode(new.encode(), type=OlderCursor) == OlderCursor(retained=7, transient=3, delivered=9)
