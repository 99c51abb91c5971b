"""Reading logs, whole and torn."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.archive import read as read_module
from relay.archive.log_line import escape
from relay.archive.read import ArchiveDamage, StoredMessage, read
from relay.errors import NoInputError

messages = st.lists(st.binary(max_size=60), max_size=12)


def line_of(message: bytes) -> bytes:
    return escape(message) + b"\n"


@pytest.fixture(params=[32, 256 * 1024], ids=["tiny chunks", "real chunks"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(read_module, "_CHUNK", request.param)
    return tmp_path / "2024-03-06.log"


@given(messages)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, given_messages: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "day.log"
    path.write_bytes(b"".join(map(line_of, given_messages)))
    items = list(read(str(path)))
    assert [item.message for item in items if isinstance(item, StoredMessage)] == given_messages
    assert len(items) == len(given_messages)


@given(st.binary(max_size=200))
@example(b"\n\n")
@example(b"#012\n#")
def test_any_octets_can_be_read_and_all_are_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, octets: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.log"
    path.write_bytes(octets)
    place = 0
    for item in read(str(path)):
        assert item.offset == place
        place = item.end if isinstance(item, StoredMessage) else place + item.length
    assert place == len(octets)


def test_a_torn_last_line_is_damage_at_the_end(path: Path) -> None:
    one = line_of(b"<13>1 - h a - - - message 1")
    for cut in range(1, len(one)):
        path.write_bytes(one + one[:cut])
        assert list(read(str(path)))[1:] == [ArchiveDamage(len(one), cut, at_end=True)]


def test_a_line_over_the_ceiling_is_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_module, "LARGEST", 100)
    one = line_of(b"<13>1 - h a - - - m")
    path.write_bytes(bytes(1_000_000).replace(b"\0", b"x") + b"\n" + one)
    items = list(read(str(path)))
    assert isinstance(items[0], ArchiveDamage)
    assert items[-1] == StoredMessage(1_000_001, b"<13>1 - h a - - - m", 1_000_001 + len(one))


def test_a_part_of_a_file_can_be_read(path: Path) -> None:
    lines = [line_of(b"<13>1 message %d" % number) for number in range(5)]
    path.write_bytes(b"".join(lines))
    size = len(lines[0])
    assert [item.offset for item in read(str(path), size, 3 * size)] == [size, 2 * size]


def test_large_messages_are_read_over_many_chunks(path: Path) -> None:
    large = b"<13>1 " + bytes(range(256)) * 4_000
    path.write_bytes(line_of(large) * 2)
    assert [item.message for item in read(str(path)) if isinstance(item, StoredMessage)] == [large] * 2


def test_a_file_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    (tmp_path / "link.log").symlink_to("/etc/passwd")
    for name in ("missing.log", "link.log"):
        with pytest.raises(NoInputError):
            list(read(str(tmp_path / name)))
