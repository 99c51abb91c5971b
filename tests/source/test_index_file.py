"""Which copy of a child's index file belongs to the data that was read, and how it is restored."""

from pathlib import Path

import pytest

from relay.source.collector.index_file import ABSENT, LARGEST, IndexFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index"


def move(index: IndexFile, path: Path, text: str, received: int = 0, decoded: int | None = None) -> bytes:
    """Have the child move its index, observe that, and return the valid copy."""
    path.write_text(text)
    index.observe(index.copy(), received, received if decoded is None else decoded)
    return index.valid_copy


def test_the_first_valid_copy_is_the_file_as_it_is_found(path: Path) -> None:
    assert IndexFile(str(path)).valid_copy == ABSENT
    path.write_text("5")
    assert IndexFile(str(path)).valid_copy == b"15"


def test_the_copy_before_the_newest_is_valid(path: Path) -> None:
    index = IndexFile(str(path))
    assert move(index, path, "1") == ABSENT
    assert move(index, path, "1") == ABSENT
    assert move(index, path, "4") == b"11"
    assert move(index, path, "9") == b"14"


def test_the_newest_copy_is_valid_once_the_child_is_quiet(path: Path) -> None:
    index = IndexFile(str(path))
    move(index, path, "1")
    index.settle()
    assert index.valid_copy == b"11"
    assert move(index, path, "2") == b"11"


def test_a_copy_is_valid_only_once_the_data_read_with_it_is_decoded(path: Path) -> None:
    index = IndexFile(str(path))
    move(index, path, "1", 100, 100)
    assert move(index, path, "2", 200, 150) == ABSENT
    assert move(index, path, "3", 300, 199) == ABSENT, "the decoder still holds the 199th octet"
    assert move(index, path, "4", 400, 250) == b"11"
    assert move(index, path, "5", 500, 500) == b"14"


def test_a_file_that_is_being_written_is_copied_again_later(path: Path) -> None:
    index = IndexFile(str(path))
    move(index, path, "123")
    assert move(index, path, "") == ABSENT
    assert move(index, path, "124") == b"1123"


def test_a_removed_file_is_not_a_copy_and_is_restored(path: Path) -> None:
    """Without its index the child would begin where it chooses."""
    path.write_text("123")
    index = IndexFile(str(path))
    path.unlink()
    assert index.observe(index.copy(), 100, 100) is False
    index.settle()
    assert index.valid_copy == b"1123"
    index.restore()
    assert path.read_text() == "123"


def test_restoring_writes_the_earlier_contents(path: Path) -> None:
    path.write_text("5")
    index = IndexFile(str(path))
    path.write_text("60000")
    index.restore()
    assert path.read_text() == "5"
    path.unlink()
    index.restore()
    assert path.read_text() == "5"
    assert move(index, path, "6") == b"15"


def test_restoring_an_absent_file_removes_it(path: Path) -> None:
    index = IndexFile(str(path))
    index.restore()
    path.write_text("60000")
    index.restore()
    assert not path.exists()


def test_an_index_that_is_right_is_not_written(path: Path) -> None:
    path.write_text("5")
    index = IndexFile(str(path))
    before = path.stat().st_mtime_ns
    index.restore()
    assert path.stat().st_mtime_ns == before


def test_a_file_that_is_too_large_for_a_position_is_an_error(path: Path) -> None:
    path.write_bytes(b"x" * LARGEST)
    assert len(IndexFile(str(path)).valid_copy) == LARGEST + 1
    path.write_bytes(b"x" * (LARGEST + 1))
    with pytest.raises(OSError, match="larger than 61440 octets"):
        IndexFile(str(path))
