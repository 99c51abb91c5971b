"""Which copy of a child's index file goes with what was read, and how it is put back."""

from pathlib import Path

import pytest

from relay.source.collector.index_file import ABSENT, LARGEST, IndexFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index"


def look(index: IndexFile, path: Path, text: str, received: int = 0, decoded: int | None = None) -> bytes:
    """Have the child move its index, look at it, and tell which place holds."""
    path.write_text(text)
    index.look(index.copy(), received, received if decoded is None else decoded)
    return index.place


def test_the_place_begins_as_the_file_is_found(path: Path) -> None:
    assert IndexFile(str(path)).place == ABSENT
    path.write_text("5")
    assert IndexFile(str(path)).place == b"15"


def test_the_copy_before_the_newest_holds(path: Path) -> None:
    index = IndexFile(str(path))
    assert look(index, path, "1") == ABSENT
    assert look(index, path, "1") == ABSENT
    assert look(index, path, "4") == b"11"
    assert look(index, path, "9") == b"14"


def test_the_newest_holds_once_the_child_is_quiet(path: Path) -> None:
    index = IndexFile(str(path))
    look(index, path, "1")
    index.settle()
    assert index.place == b"11"
    assert look(index, path, "2") == b"11"


def test_a_place_holds_only_once_what_was_read_with_it_is_decoded(path: Path) -> None:
    index = IndexFile(str(path))
    look(index, path, "1", 100, 100)
    assert look(index, path, "2", 200, 150) == ABSENT
    assert look(index, path, "3", 300, 199) == ABSENT, "the decoder still holds the 199th octet"
    assert look(index, path, "4", 400, 250) == b"11"
    assert look(index, path, "5", 500, 500) == b"14"


def test_a_file_that_is_being_written_is_looked_at_again_later(path: Path) -> None:
    index = IndexFile(str(path))
    look(index, path, "123")
    assert look(index, path, "") == ABSENT
    assert look(index, path, "124") == b"1123"


def test_a_file_that_is_gone_where_it_was_tells_no_place(path: Path) -> None:
    """To begin without an index is to begin where the child chooses: what somebody removed is put back."""
    path.write_text("123")
    index = IndexFile(str(path))
    path.unlink()
    assert index.look(index.copy(), 100, 100) is False
    index.settle()
    assert index.place == b"1123"
    index.put_back()
    assert path.read_text() == "123"


def test_putting_back_makes_the_file_what_it_was(path: Path) -> None:
    path.write_text("5")
    index = IndexFile(str(path))
    path.write_text("60000")
    index.put_back()
    assert path.read_text() == "5"
    path.unlink()
    index.put_back()
    assert path.read_text() == "5"
    assert look(index, path, "6") == b"15"


def test_putting_back_a_file_that_was_not_there_removes_it(path: Path) -> None:
    index = IndexFile(str(path))
    index.put_back()
    path.write_text("60000")
    index.put_back()
    assert not path.exists()


def test_an_index_that_is_right_already_is_not_written(path: Path) -> None:
    path.write_text("5")
    index = IndexFile(str(path))
    before = path.stat().st_mtime_ns
    index.put_back()
    assert path.stat().st_mtime_ns == before


def test_a_file_that_is_too_large_for_a_position_is_told(path: Path) -> None:
    path.write_bytes(b"x" * LARGEST)
    assert len(IndexFile(str(path)).place) == LARGEST + 1
    path.write_bytes(b"x" * (LARGEST + 1))
    with pytest.raises(OSError, match="larger than 61440 octets"):
        IndexFile(str(path))
