"""Reading day files, whole and damaged."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.archive import read as read_module
from relay.archive.read import ArchiveDamage, StoredMessage, read
from relay.errors import NoInputError

one_message = st.binary(min_size=1, max_size=60).map(lambda octets: b"<13>1 " + octets)
messages = st.lists(one_message | st.just(b"<1>\n7 <13>1 x\n"), max_size=12)


def framed(message: bytes) -> bytes:
    return b"%d %b\n" % (len(message), message)


@pytest.fixture(params=[32, 256 * 1024], ids=["tiny chunks", "real chunks"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(read_module, "_CHUNK", request.param)
    return tmp_path / "2024-03-06.log"


def check_round_trip(folder: Path, given_messages: list[bytes]) -> None:
    path = folder / "day.log"
    path.write_bytes(b"".join(map(framed, given_messages)))
    items = list(read(str(path)))
    assert [item.message for item in items if isinstance(item, StoredMessage)] == given_messages
    assert len(items) == len(given_messages)


@given(messages)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, given_messages: list[bytes]) -> None:
    check_round_trip(tmp_path_factory.getbasetemp(), given_messages)


@given(messages, st.data())
def test_damage_costs_only_what_it_touches_and_everything_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, given_messages: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.log"
    whole = bytearray(b"".join(map(framed, given_messages)))
    for _ in range(data.draw(st.integers(0, 3))):
        if whole:
            whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    place = 0
    for item in read(str(path)):
        assert item.offset == place
        place += len(framed(item.message)) if isinstance(item, StoredMessage) else item.length
    assert place == len(whole)


@given(st.binary(max_size=200))
@example(b"\n1 <\n")
@example(b"99999999 <x")
@example(b"0 \n1 x\n")
def test_any_octets_can_be_read(tmp_path_factory: pytest.TempPathFactory, octets: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.log"
    path.write_bytes(octets)
    assert sum(len(framed(i.message)) if isinstance(i, StoredMessage) else i.length for i in read(str(path))) == len(
        octets
    )


def test_after_damage_reading_goes_on_at_the_next_whole_frame(path: Path) -> None:
    one, two, three = (framed(b"<13>1 - h a - - - message %d" % number) for number in (1, 2, 3))
    broken = b"x" + two[1:]
    path.write_bytes(one + broken + three)
    assert list(read(str(path))) == [
        StoredMessage(0, b"<13>1 - h a - - - message 1"),
        ArchiveDamage(len(one), len(broken), at_end=False),
        StoredMessage(len(one + broken), b"<13>1 - h a - - - message 3"),
    ]


def test_a_megabyte_of_zeros_is_one_damage(path: Path) -> None:
    one = framed(b"<13>1 - h a - - - m")
    path.write_bytes(one + bytes(100_000) + b"\n" + one)
    assert [type(item) for item in read(str(path))] == [StoredMessage, ArchiveDamage, StoredMessage]


def test_a_torn_last_frame_is_damage_at_the_end(path: Path) -> None:
    one = framed(b"<13>1 - h a - - - message 1")
    for cut in range(1, len(one)):
        path.write_bytes(one + one[:cut])
        assert list(read(str(path)))[1:] == [ArchiveDamage(len(one), cut, at_end=True)]


def test_a_length_over_the_ceiling_is_damage(path: Path) -> None:
    one = framed(b"<13>1 - h a - - - m")
    path.write_bytes(b"99999999 <13>1 \n" + one)
    assert [type(item) for item in read(str(path))] == [ArchiveDamage, StoredMessage]


def test_a_part_of_a_file_can_be_read(path: Path) -> None:
    frames = [framed(b"<13>1 message %d" % number) for number in range(5)]
    path.write_bytes(b"".join(frames))
    size = len(frames[0])
    assert [item.offset for item in read(str(path), size, 3 * size)] == [size, 2 * size]


def test_large_messages_are_read_over_many_chunks(path: Path) -> None:
    large = b"<13>1 " + bytes(range(256)) * 40_000
    path.write_bytes(framed(large) * 2)
    assert [item.message for item in read(str(path)) if isinstance(item, StoredMessage)] == [large] * 2


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "link.log").symlink_to("/etc/passwd")
    for name in ("missing.log", "link.log"):
        with pytest.raises(NoInputError):
            list(read(str(tmp_path / name)))
