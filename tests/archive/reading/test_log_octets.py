"""A log's octets by offset."""

from pathlib import Path

import pytest

from relay.archive.reading.log_octets import open_log
from relay.errors import NoInputError


def test_a_plain_log_is_read_by_offset_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "2026-11-30.log"
    path.write_bytes(b"0123456789")
    log = open_log(str(path))
    assert (log.size(), log.read(3, 4), log.read(8, 9), log.read(20, 1)) == (10, b"3456", b"89", b"")
    with path.open("ab") as file:
        file.write(b"ab")
    assert (log.size(), log.read(8, 9)) == (12, b"89ab")
    log.close()
    log.close()


def test_a_missing_log_and_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link.log").symlink_to("/etc/hostname")
    for name in ("none.log", "link.log"):
        with pytest.raises(NoInputError, match=name):
            open_log(str(tmp_path / name))
