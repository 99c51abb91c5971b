"""Which files a log has, and which of them is which."""

import os
from pathlib import Path

import pytest
from source.log_writing import records, rotate

from relay.source.auditd.generations import LogFile, RotationError, locate, open_generation, scan


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    for number in range(4):
        path.write_bytes(records(number * 100 + 1, number * 100 + 50))
        if number < 3:
            rotate(path, 20)
    return path


def test_the_newest_comes_first_and_other_files_are_ignored(log: Path) -> None:
    rotate(log, 20)
    for name in ("audit.log.x", "audit.log.01", "xaudit.log.1", "audit.log.1.gz", "audit2log"):
        (log.parent / name).write_bytes(b"x")
    (log.parent / "audit.log.9").mkdir()
    found = [Path(generation.path).name for generation in scan(str(log))]
    assert found == ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3", "audit.log.4"]


def test_a_missing_folder_has_no_generations(tmp_path: Path) -> None:
    assert scan(str(tmp_path / "no" / "audit.log")) == []


@pytest.mark.parametrize("when", range(8))
def test_a_rotation_in_the_middle_of_a_scan_hides_no_file(log: Path, when: int) -> None:
    """Between two files all files move up by one: a single listing would miss one or list one twice."""
    before = {path.stat().st_ino for path in log.parent.iterdir()}
    looks = 0

    def stat_while_rotating(path: str) -> os.stat_result:
        nonlocal looks
        if looks == when:
            rotate(log, 20)
        looks += 1
        return os.stat(path)

    found = [generation.inode for generation in scan(str(log), stat_while_rotating)]
    assert looks > when
    assert before <= set(found)
    assert len(found) == len(set(found)) >= 4


def test_a_rotation_without_a_pause_is_an_error(log: Path) -> None:
    kept = []  # so that no inode is used again

    def stat_while_rotating(path: str) -> os.stat_result:
        kept.append(log.open("rb"))
        rotate(log)
        return os.stat(path)

    with pytest.raises(RotationError):
        scan(str(log), stat_while_rotating)
    for file in kept:
        file.close()


def test_a_file_is_found_under_its_new_name(log: Path) -> None:
    file = LogFile(str(log))
    rotate(log, 20)
    assert locate(scan(str(log)), file.identity) == 1
    file.close()
    assert locate(scan(str(log)), file.identity) == 1


def test_a_copy_is_found_by_its_fingerprint_alone(log: Path) -> None:
    file = LogFile(str(log))
    data = log.read_bytes()
    log.unlink()
    (log.parent / "audit.log.7").write_bytes(data)
    assert locate(scan(str(log)), file.identity) == 3
    file.close()


def test_the_same_inode_with_other_contents_is_another_file(log: Path) -> None:
    file = LogFile(str(log))
    identity = file.identity
    file.close()
    log.write_bytes(records(9001, 9050))
    assert locate(scan(str(log)), identity) is None


def test_a_name_that_belongs_to_another_file_by_now_is_not_opened(log: Path) -> None:
    generation = scan(str(log))[0]
    rotate(log, 20)
    with pytest.raises(RotationError):
        open_generation(generation)
    log.unlink()
    with pytest.raises(RotationError):
        open_generation(generation)
