"""The history of an archive, which its own writer makes, also while the writer works."""

from pathlib import Path
from typing import Any

import pytest
from archive.messages import DAY_US, NOON_US
from program.history.spools import SECOND_US, texts

from relay.archive.query import day_of
from relay.archive.write import ArchiveWriter
from relay.errors import NoInputError
from relay.program.history import ArchiveHistory, EventFilter, PastEvent, UnreadableStretch
from relay.syslog.rfc5424 import format_timestamp
from relay.system.disk import Disk


def message(text: str, host: str = "r1", second: int = 0, kind: str = "audit", number: int | None = None) -> bytes:
    identity = f' relayRun="5f" relaySeq="{number}" type="{kind}"' if number is not None else ""
    time = format_timestamp(NOON_US + second * SECOND_US).decode()
    return f'<109>1 {time} {host} auditd - LOGIN [128T{identity} router="{host}"] {text}'.encode()


def put(writer: ArchiveWriter, *messages: bytes, day: int = 0) -> None:
    for each in messages:
        writer.write(each, NOON_US + day * DAY_US)
    writer.commit(b"cursor")


def archived(folder: Path, *messages: bytes, day: int = 0) -> None:
    with ArchiveWriter(str(folder), "s") as writer:
        put(writer, *messages, day=day)


def history(folder: Path, day: int = 0, **conditions: Any) -> ArchiveHistory:
    return ArchiveHistory(Disk(), str(folder), EventFilter(**conditions), lambda: NOON_US + day * DAY_US)


def test_originators_of_a_day_are_merged_by_time_and_days_follow_each_other(tmp_path: Path) -> None:
    archived(tmp_path, message("a", "r1", 1), message("c", "r1", 3), message("b", "r2", 2), message("d", "r2", 4))
    archived(tmp_path, message("late", "r1", 0), message("e", "r2", 86_400), day=1)
    assert texts(history(tmp_path).events()) == ["a", "b", "c", "d", "late", "e"]
    for limit in range(8):
        assert texts(history(tmp_path).newest(limit)) == ["a", "b", "c", "d", "late", "e"][max(6 - limit, 0) :]


def test_an_originators_own_order_is_kept_whatever_its_clock_did(tmp_path: Path) -> None:
    archived(tmp_path, message("a", "r1", 50), message("b", "r1", 10), message("c", "r1", 60), message("x", "r2", 55))
    assert texts(history(tmp_path).events()) == ["a", "b", "x", "c"]
    assert texts(history(tmp_path).newest(3)) == ["b", "x", "c"]


def test_too_many_originators_are_read_one_after_the_other(tmp_path: Path) -> None:
    def unmerged() -> ArchiveHistory:
        return ArchiveHistory(Disk(), str(tmp_path), EventFilter(), lambda: NOON_US, max_merged=2)

    archived(tmp_path, *(message(f"{host}-{second}", host, second) for second in (1, 2) for host in ("r1", "r2", "r3")))
    assert texts(history(tmp_path).events()) != texts(unmerged().events())
    assert texts(unmerged().events()) == ["r1-1", "r1-2", "r2-1", "r2-2", "r3-1", "r3-2"]
    assert sorted(texts(unmerged().newest(3))) == ["r1-2", "r2-2", "r3-2"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"types": frozenset({"admin"})}, ["b"]),
        ({"types": frozenset({"log"})}, ["c", "untimed", "old"]),
        ({"routers": frozenset({b"r2"})}, ["b"]),
        ({"routers": frozenset({b"h3"})}, ["c", "untimed"]),
        ({"texts": (b"- old",)}, ["old"]),
        ({"earliest": NOON_US + SECOND_US}, ["b", "c", "untimed", "old"]),
        ({"latest": NOON_US + SECOND_US}, ["a", "b"]),
        ({"earliest": NOON_US + DAY_US}, []),
    ],
)
def test_each_condition_holds(tmp_path: Path, conditions: Any, expected: list[str]) -> None:
    archived(
        tmp_path,
        message("a", number=1),
        message("b", "r2", 1, "admin", 1),
        b"<13>1 2024-03-06T12:00:02Z h3 app - - - c",
        b"<13>1 - h3 app - - - untimed",
        b"<13>1 2024-03-06T12:00:03Z - app - - - old",
    )
    assert texts(history(tmp_path, **conditions).events()) == expected
    assert texts(history(tmp_path, **conditions).newest(10)) == expected


def test_a_message_received_days_later_is_found_by_its_own_time(tmp_path: Path) -> None:
    """The day in a file's name is that of receipt: a backlog of a router that was cut off comes later."""
    archived(tmp_path, message("prompt", second=1))
    archived(tmp_path, message("delayed", second=2), message("later", second=3 * 86_400), day=3)
    end_of_first_day = NOON_US + DAY_US // 2
    assert texts(history(tmp_path, latest=end_of_first_day).events()) == ["prompt", "delayed"]
    assert texts(history(tmp_path, latest=end_of_first_day).newest(1)) == ["delayed"]


def test_days_before_the_selected_time_are_not_read(tmp_path: Path) -> None:
    archived(tmp_path, message("a"))
    archived(tmp_path, message("b", second=3 * 86_400), day=3)
    (tmp_path / "r1" / "2024-03-06.log").write_bytes(b"damaged\n")
    assert texts(history(tmp_path, earliest=NOON_US + 2 * DAY_US).events()) == ["b"]
    assert texts(history(tmp_path, earliest=NOON_US + 2 * DAY_US).newest(5)) == ["b"]


@pytest.mark.parametrize("limited", [False, True])
def test_following_returns_later_messages_once(tmp_path: Path, limited: bool) -> None:
    """In the same file, in the next day's, and from an originator that was not there before."""
    with ArchiveWriter(str(tmp_path), "s") as writer:
        put(writer, message("a"), message("b", "r2"))
        day = [0]
        followed = ArchiveHistory(Disk(), str(tmp_path), EventFilter(), lambda: NOON_US + day[0] * DAY_US)
        assert texts(followed.newest(10) if limited else followed.events()) == ["a", "b"]
        assert texts(followed.events()) == []
        put(writer, message("c"))
        assert texts(followed.events()) == ["c"]
        put(writer, message("d", "r2"), message("e", "r3"))
        assert texts(followed.events()) == ["d", "e"]
        put(writer, message("f"))
        put(writer, message("g", "r2"), day=1)
        put(writer, message("h"), day=1)
        day[0] = 1
        assert texts(followed.events()) == ["f", "h", "g"]
        day[0] = 9
        put(writer, message("i"), day=7)
        assert texts(followed.events()) == ["i"]
        assert texts(followed.events()) == []


@pytest.mark.parametrize("limited", [False, True])
def test_a_frame_that_is_being_written_appears_when_it_is_whole(tmp_path: Path, limited: bool) -> None:
    archived(tmp_path, message("a"), message("b"))
    path = tmp_path / "r1" / f"{day_of(NOON_US)}.log"
    whole = path.read_bytes()
    for cut in range(len(whole) // 2, len(whole), 7):
        path.write_bytes(whole[:cut])
        followed = history(tmp_path)
        assert texts(followed.newest(10) if limited else followed.events()) == ["a"]
        path.write_bytes(whole)
        assert texts(followed.events()) == ["b"]


def test_following_continues_after_the_writer_cut_uncommitted_frames(tmp_path: Path) -> None:
    archived(tmp_path, message("a"))
    path = tmp_path / "r1" / f"{day_of(NOON_US)}.log"
    size = path.stat().st_size
    archived(tmp_path, message("b"))
    followed = history(tmp_path)
    assert texts(followed.events()) == ["a", "b"]
    with path.open("r+b") as file:
        file.truncate(size)
    assert texts(followed.events()) == []
    archived(tmp_path, message("c"))
    assert texts(followed.events()) == ["c"]


def test_damage_is_reported_with_its_offset_and_the_rest_follows(tmp_path: Path) -> None:
    archived(tmp_path, message("a"), message("b"), message("c"))
    path = tmp_path / "r1" / f"{day_of(NOON_US)}.log"
    data = bytearray(path.read_bytes())
    frame = len(data) // 3
    data[frame] = ord("x")
    path.write_bytes(data)
    for items in (list(history(tmp_path).events()), list(history(tmp_path).newest(5))):
        assert texts(item for item in items if isinstance(item, PastEvent)) == ["a", "c"]
        reported = [item for item in items if isinstance(item, UnreadableStretch)]
        assert reported == [UnreadableStretch(str(path), frame, f"{frame} octets are not a message")]


def test_a_torn_end_is_damage_on_an_older_day_and_not_on_the_newest(tmp_path: Path) -> None:
    archived(tmp_path, message("a"), message("b"))
    archived(tmp_path, message("c"), message("d"), day=1)
    for day in (0, 1):
        path = tmp_path / "r1" / f"{day_of(NOON_US + day * DAY_US)}.log"
        path.write_bytes(path.read_bytes()[:-3])
    items = list(history(tmp_path, day=1).events())
    assert texts(item for item in items if isinstance(item, PastEvent)) == ["a", "c"]
    assert [item.path for item in items if isinstance(item, UnreadableStretch)] == [
        str(tmp_path / "r1" / "2024-03-06.log")
    ]


def test_files_that_the_writer_did_not_create_are_skipped(tmp_path: Path) -> None:
    archived(tmp_path, message("a"))
    (tmp_path / "stray.log").write_text("stray")
    (tmp_path / "r1" / "notes.txt").write_text("notes")
    (tmp_path / "r1" / "2024-99-99.log").write_text("no day")
    (tmp_path / "r1" / "2024-03-07.log").symlink_to("/etc/passwd")
    (tmp_path / "link").symlink_to(tmp_path / "r1")
    assert texts(history(tmp_path).events()) == ["a"]
    assert texts(history(tmp_path).newest(9)) == ["a"]


def test_a_missing_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("missing", "file"):
        with pytest.raises(NoInputError, match=name):
            history(tmp_path / name)
