"""The history of an archive: order, conditions, damage, and what a reader that continues gets."""

import gzip
import ipaddress
import re
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from harness.made_archive import SECOND, MadeDay
from program.history.spools import texts

from relay.archive.filing.filing_policy import FilingPolicy, FilingTerms
from relay.archive.layout import begin_of
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.errors import NoInputError
from relay.program.history.archive_history import ArchiveHistory
from relay.program.history.event_filter import EventFilter
from relay.program.history.past_event import PastEvent, UnreadableStretch
from relay.program.history.reading_position import DayPosition, OriginatorPosition
from relay.syslog.rfc5424 import format_timestamp
from relay.system.disk import Disk

BEGIN = begin_of("2026-11-29")
A_DAY = 86_400 * SECOND


def message(text: str, host: str = "r1", second: int = 0, kind: str = "audit", number: int | None = None) -> bytes:
    identity = f' relayRun="5f" relaySeq="{number}" type="{kind}"' if number is not None else ""
    time = format_timestamp(BEGIN + second * SECOND).decode()
    return f'<109>1 {time} {host} auditd - LOGIN [128T{identity} router="{host}"] {text}'.encode()


def history(folder: Path, *, following: bool = False, positions: Any = None, **conditions: Any) -> ArchiveHistory:
    chosen = EventFilter(**conditions)
    return ArchiveHistory(Disk(), str(folder), chosen, following=following, positions=positions)


def unread(items: object) -> list[UnreadableStretch]:
    return [item for item in items if isinstance(item, UnreadableStretch)]  # type: ignore[attr-defined]


def events_of(items: object) -> list[str]:
    return texts(item for item in items if isinstance(item, PastEvent))  # type: ignore[attr-defined]


class Archive:
    """An archive that grows extent by extent, as its writer makes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.days: dict[str, list[MadeDay]] = {}

    def put(self, second: int, host: str, *words: str, **attributes: Any) -> MadeDay:
        """One extent with a message for each word, received so many seconds after the beginning."""
        day = self._day(host, BEGIN + second * SECOND)
        messages = [message(word, host, second) for word in words]
        day.extent(BEGIN + second * SECOND, attributes.pop("messages", messages), **attributes)
        day.save(self.folder)
        return day

    def _day(self, host: str, at: int) -> MadeDay:
        stem = format_timestamp(at)[:10].decode()
        days = self.days.setdefault(host, [])
        if not days or days[-1].stem != stem:
            if days:
                days[-1].close(at)
                days[-1].save(self.folder)
            days.append(MadeDay(host, stem, days[-1] if days else None))
        return days[-1]


def test_extents_of_all_originators_are_merged_by_receipt(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.put(1, "r1", "a", "b")
    archive.put(2, "r2", "c")
    archive.put(3, "r1", "d")
    archive.put(2, "r3", "c2")
    archive.put(86_400, "r3", "e")
    archive.put(86_401, "r1", "f")
    expected = ["a", "b", "c", "c2", "d", "e", "f"]
    assert texts(history(tmp_path).events()) == expected
    assert texts(history(tmp_path).backward()) == expected[::-1]
    for limit in range(9):
        assert texts(history(tmp_path).newest(limit)) == expected[max(7 - limit, 0) :]


@pytest.mark.parametrize("most_open", [1, 3, 40])
def test_more_originators_than_can_be_open_keep_the_order(tmp_path: Path, most_open: int) -> None:
    """They are closed and opened again in the middle of a day, between its parts, and beside damage."""
    archive = Archive(tmp_path)
    for second in range(15):
        for number in range(0, 12, 1 + second % 3):
            archive.put(
                second, f"r{number:02}", f"{number} at {second}", f"{number} at {second}, more", sender="192.0.2.7"
            )
    for number in (1, 4):
        later = MadeDay(f"r{number:02}", "2026-11-29.2", archive.days[f"r{number:02}"][0])
        later.extent(BEGIN + 16 * SECOND, [message(f"{number} in a later part", f"r{number:02}", 16)])
        later.save(tmp_path)
    ledger = tmp_path / "r03" / "2026-11-29.ledger"
    lines = ledger.read_bytes().split(b"\n")
    lines[5] = b"damaged"
    ledger.write_bytes(b"\n".join(lines))

    def opened(**attributes: Any) -> ArchiveHistory:
        return ArchiveHistory(Disk(), str(tmp_path), EventFilter(), **attributes)

    for direction in ("events", "backward"):
        expected, found = (list(getattr(opened(**limit), direction)()) for limit in ({}, {"most_open": most_open}))
        assert events_of(found) == events_of(expected)
        assert [(each.path, each.offset) for each in unread(found)] == [(str(ledger), sum(map(len, lines[:5])) + 5)]
    assert events_of(opened(most_open=most_open).newest(9)) == events_of(opened().events())[-9:]


def test_positions_are_exact_when_originators_are_closed_and_opened_again(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for second in range(12):
        for number in range(6):
            archive.put(second, f"r{number}", f"{number} at {second}", f"{number} at {second}, more")
    expected = texts(history(tmp_path).events())
    for used in (0, 1, 2, 7, 50, 143, 144):
        first = ArchiveHistory(Disk(), str(tmp_path), EventFilter(), following=True, most_open=2)
        before = texts(islice(first.events(), used))
        positions = restarted(first)
        second_history = ArchiveHistory(
            Disk(), str(tmp_path), EventFilter(), following=True, positions=positions, most_open=2
        )
        # What was given last is not used until the next is asked for, so it comes again.
        assert texts(second_history.events()) == expected[max(used - 1, 0) :]
        assert before == expected[:used]


def test_thousands_of_originators_are_merged_too(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for number in range(150):
        archive.put(200 - number, f"r{number}", str(number), f"{number}+")
    expected = [word for number in range(149, -1, -1) for word in (str(number), f"{number}+")]
    assert texts(history(tmp_path).events()) == expected
    assert texts(history(tmp_path).newest(20)) == expected[-20:]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"types": frozenset({"admin"})}, ["b"]),
        ({"types": frozenset({"log"})}, ["through", "c", "untimed", "old"]),
        ({"routers": frozenset({b"r2"})}, ["b", "through"]),
        ({"texts": (b"- old", b"] b")}, ["b", "old"]),
        ({"expressions": (re.compile(rb"ol.$"), re.compile(rb"\] a"))}, ["a", "old"]),
        ({"earliest": BEGIN + 2 * SECOND}, ["b", "through", "untimed", "old"]),
        ({"latest": BEGIN + 2 * SECOND}, ["a", "b", "c"]),
        ({"received_from": BEGIN + 5 * SECOND}, ["c", "untimed", "old"]),
        ({"received_to": BEGIN + 4 * SECOND}, ["a", "b", "through"]),
        ({"received_from": BEGIN + A_DAY}, []),
        ({"earliest": BEGIN + 3 * A_DAY}, []),
        ({"originators": "r2".__eq__}, ["b", "through"]),
        ({"peers": (ipaddress.ip_network("192.0.2.0/30"),)}, ["a"]),
        ({"identities": lambda text: text.startswith("SHA256:")}, ["b", "through"]),
        ({"severity": 4}, ["c"]),
        ({"programs": "auditd".__eq__}, ["a", "b", "through"]),
        ({"fields": ((b"router", "r1".__eq__),)}, ["a"]),
    ],
)
def test_each_condition_holds_in_both_directions(tmp_path: Path, conditions: Any, expected: list[str]) -> None:
    archive = Archive(tmp_path)
    archive.put(1, "r1", messages=[message("a", number=1, second=1)])
    archive.put(
        3,
        "r2",
        messages=[message("b", "r2", 2, "admin", 1), message("through", "r2", 3, "admin", 2)],
        sender="192.0.2.9",
        identity="SHA256:abc",
        marks={1: ("forwarded",)},
    )
    archive.put(
        5,
        "h3",
        messages=[
            b"<12>1 2026-11-29T00:00:01Z h3 app - - - c",
            b"<13>1 - h3 app - - - untimed",
            b"<13>1 2026-11-29T00:00:03Z - app - - - old",
        ],
        sender="2001:db8::1",
    )
    assert texts(history(tmp_path, **conditions).events()) == expected
    assert sorted(texts(history(tmp_path, **conditions).backward())) == sorted(expected)


def test_a_message_received_days_later_is_found_by_its_own_time_and_closed_days_are_ruled_out(tmp_path: Path) -> None:
    """The day in a file's name is that of receipt: a backlog of a router that was cut off comes later."""
    first, second, third = (MadeDay("r1", f"2026-11-{day}") for day in (25, 26, 27))
    first.extent(begin_of("2026-11-25"), [b"<13>1 2026-11-25T00:00:01Z r1 app - - - prompt"])
    first.close(1, (begin_of("2026-11-25"), begin_of("2026-11-25") + SECOND))
    second.extent(begin_of("2026-11-26"), [b"<13>1 2026-11-20T00:00:01Z r1 app - - - backlog"])
    second.close(1, None, ((begin_of("2026-11-20"), begin_of("2026-11-21")),))
    third.extent(begin_of("2026-11-27"), [b"<13>1 2026-11-27T00:00:01Z r1 app - - - late"])
    third.close(1, (begin_of("2026-11-27"), begin_of("2026-11-27") + SECOND))
    for day in (first, second, third):
        day.save(tmp_path)
    (tmp_path / "r1" / "2026-11-27.log").chmod(0)
    (tmp_path / "r1" / "2026-11-27.log").unlink()
    (tmp_path / "r1" / "2026-11-27.log").symlink_to("/nothing")  # a day that is read would be reported
    assert texts(history(tmp_path, latest=begin_of("2026-11-21")).events()) == ["backlog"]
    assert texts(history(tmp_path, latest=begin_of("2026-11-21")).newest(5)) == ["backlog"]
    assert len(unread(history(tmp_path).events())) == 1


def test_a_time_without_a_zone_is_the_one_that_the_writer_filed(tmp_path: Path) -> None:
    """A package can be searched on a machine that has another zone, or after the setting was changed."""
    told = b"<13>Nov 29 13:00:00 r1 app: here it was noon in UTC"
    noon = BEGIN + 12 * 3600 * SECOND
    with ArchiveWriter(
        str(tmp_path), "spool", policy=FilingPolicy(FilingTerms(zone=ZoneInfo("Europe/Paris")))
    ) as writer:
        writer.write(told, noon + SECOND)
        writer.commit(b"1")
    for earliest, latest, found in ((noon, noon, [told]), (noon + SECOND, None, []), (None, noon - 1, [])):
        (*items,) = history(tmp_path, earliest=earliest, latest=latest).events()
        assert [item.message for item in items if isinstance(item, PastEvent)] == found
        assert [item.reading().time for item in items if isinstance(item, PastEvent)] == [noon] * len(found)


def test_facts_of_the_ledger_come_with_each_message(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    day = archive.put(1, "r1", "a", "b", identity="SHA256:x", marks={1: ("no-pri", "cut")})
    with (tmp_path / "r1" / f"{day.stem}.log").open("ab") as file:
        file.write(message("unrecorded") + b"\n")
    found = [item for item in history(tmp_path).events() if isinstance(item, PastEvent)]
    assert [item.facts and item.facts.marks for item in found] == [(), ("no-pri", "cut"), ("unrecorded",)]
    facts = found[1].facts
    assert facts is not None
    assert facts.extent is not None
    assert (facts.originator, facts.extent.sender, facts.extent.identity) == ("r1", "192.0.2.1", "SHA256:x")
    assert facts.path == str(tmp_path / "r1" / f"{day.stem}.log")


# --- What an administrator and retention did ---


def test_days_without_a_ledger_and_without_a_log(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for day in range(3):
        archive.put(day * 86_400, "r1", f"a{day}")
    archive.days["r1"][1].close(9)
    archive.days["r1"][1].save(tmp_path)
    (tmp_path / "r1" / "2026-11-29.ledger").unlink()
    (tmp_path / "r1" / "2026-11-30.log").unlink()
    items = list(history(tmp_path).events())
    assert events_of(items) == ["a0", "a2"]
    assert [item.path for item in unread(items)] == [str(tmp_path / "r1" / "2026-11-30")]
    archive.days["r1"][1].remove(BEGIN + 5 * A_DAY)
    archive.days["r1"][1].save(tmp_path, log=False)
    assert unread(history(tmp_path).events()) == []
    reported = unread(history(tmp_path, earliest=BEGIN).events())
    assert [item.cause for item in reported] == ["removed by retention (age) on 2026-12-04"]
    assert reported[0].is_expected


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_what_cannot_be_read_is_named_and_does_not_count_towards_a_limit(tmp_path: Path, limit: int) -> None:
    archive = Archive(tmp_path)
    for day in range(5):
        archive.put(day * 86_400, "r1", f"a{day}")
    (tmp_path / "r1" / "2026-12-03.log").unlink()
    (tmp_path / "r1" / "2026-12-02.log").rename(tmp_path / "r1" / "2026-12-02.log.gz")
    items = list(history(tmp_path).newest(limit))
    assert events_of(items) == ["a0", "a1", "a2"][-limit:]
    assert [item.path[-10:] for item in unread(items)] == ["2026-12-03", "-02.log.gz"]
    assert events_of(history(tmp_path).backward(limit)) == ["a2", "a1", "a0"][:limit]
    assert list(history(tmp_path).backward(0)) == []


@pytest.mark.parametrize("order", ["events", "backward"])
def test_a_day_that_retention_removes_while_the_history_is_read_is_not_damage(tmp_path: Path, order: str) -> None:
    archive = Archive(tmp_path)
    for host in ("r1", "r2", "r3", "r4", "r5"):
        archive.put(0, host, *(f"{host}-{number}" for number in range(3)))
    read = history(tmp_path)
    items = getattr(read, order)()
    next(items)  # all logs are listed, and at most three are open
    for days in archive.days.values():
        days[0].close(BEGIN + A_DAY)
        days[0].remove(BEGIN + 9 * A_DAY)
        (days[0].save(tmp_path, log=False) / "2026-11-29.log").unlink()
    assert all(item.is_expected and "removed by retention" in item.cause for item in unread(items))


def test_a_log_that_was_moved_away_is_named_and_read_when_it_is_there_again(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for day in range(3):
        archive.put(day * 86_400, "r1", f"a{day}")
    log = tmp_path / "r1" / "2026-11-30.log"
    log.rename(tmp_path / "away")
    followed = history(tmp_path, following=True)
    items = list(followed.events())
    assert (events_of(items), len(unread(items))) == (["a0", "a2"], 1)
    assert list(followed.events()) == []
    again = history(tmp_path, following=True, positions=restarted(followed))
    assert (events_of(items := list(again.events())), len(unread(items))) == ([], 1)
    (tmp_path / "away").rename(log)
    assert texts(again.events()) == ["a1"]
    assert texts(history(tmp_path, following=True, positions=restarted(again)).events()) == []


def test_a_log_that_is_shorter_than_its_position_is_read_again(tmp_path: Path) -> None:
    Archive(tmp_path).put(0, "r1", "a", "b")
    positions = {"r1": OriginatorPosition({"2026-11-29": DayPosition(7_000_000)})}
    items = list(history(tmp_path, following=True, positions=positions).events())
    assert (events_of(items), [item.is_expected for item in unread(items)]) == (["a", "b"], [True])


def test_positions_of_another_archive_leave_nothing_out(tmp_path: Path) -> None:
    """The finished days of both have the same names."""
    for name in ("one", "other"):
        archive = Archive(tmp_path / name)
        for day in range(3):
            archive.put(day * 86_400, "r1", f"{name}{day}")
        archive.days["r1"][-1].close(BEGIN + 3 * A_DAY)
        archive.days["r1"][-1].save(tmp_path / name)
    followed = history(tmp_path / "one", following=True)
    assert len(texts(followed.events())) == 3
    items = list(history(tmp_path / "other", following=True, positions=restarted(followed)).events())
    assert events_of(items) == ["other0", "other1", "other2"]
    assert [item.is_expected for item in unread(items)] == [True]


def test_a_damaged_ledger_is_named_and_its_lines_are_read(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for second in range(4):
        archive.put(second, "r1", f"a{second}")
    path = tmp_path / "r1" / "2026-11-29.ledger"
    path.write_bytes(path.read_bytes().replace(b'"from"', b'"fr', 1))
    for items in (list(history(tmp_path).events()), list(history(tmp_path).newest(9))):
        assert events_of(items) == ["a0", "a1", "a2", "a3"]
        assert [item.path for item in unread(items)] == [str(path)]


def test_files_that_the_writer_did_not_create_are_skipped(tmp_path: Path) -> None:
    Archive(tmp_path).put(0, "r1", "a")
    (tmp_path / "stray.log").write_text("stray")
    (tmp_path / "r1" / "notes.txt").write_text("notes")
    (tmp_path / "r1" / "2024-99-99.log").write_text("no day")
    (tmp_path / "link").symlink_to(tmp_path / "r1")
    assert texts(history(tmp_path).events()) == ["a"]
    assert texts(history(tmp_path).newest(9)) == ["a"]


def test_a_missing_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, cause in (("missing", "no such folder"), ("file", "not a folder"), ("", "not an archive")):
        with pytest.raises(NoInputError, match=cause):
            history(tmp_path / name)


# --- Following ---


@pytest.mark.parametrize("limited", [False, True])
def test_following_returns_later_messages_once(tmp_path: Path, limited: bool) -> None:
    """In the same log, in the next day's, and from an originator that was not there before."""
    archive = Archive(tmp_path)
    archive.put(0, "r1", "a")
    archive.put(0, "r2", "b")
    followed = history(tmp_path, following=True)
    assert texts(followed.newest(10) if limited else followed.events()) == ["a", "b"]
    assert texts(followed.events()) == []
    archive.put(1, "r1", "c")
    assert texts(followed.events()) == ["c"]
    archive.put(2, "r2", "d")
    archive.put(3, "r3", "e")
    assert texts(followed.events()) == ["d", "e"]
    archive.put(4, "r1", "f")
    archive.put(86_400, "r1", "h")
    archive.put(86_401, "r2", "g")
    assert texts(followed.events()) == ["f", "h", "g"]
    archive.put(7 * 86_400, "r1", "i")
    assert texts(followed.events()) == ["i"]
    assert texts(followed.events()) == []


def restarted(history_before: ArchiveHistory) -> dict[str, OriginatorPosition]:
    """The positions as a bookmark would bring them back."""
    return {
        name: OriginatorPosition(
            {stem: DayPosition(log.off, list(log.passed), log.finished) for stem, log in position.logs.items()}
        )
        for name, position in history_before.positions.items()
    }


def test_positions_survive_day_changes_parts_compression_and_retention(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.put(0, "r1", "a")
    archive.put(86_400, "r1", "b")
    followed = history(tmp_path, following=True)
    assert texts(followed.events()) == ["a", "b"]
    archive.put(86_401, "r1", "c")
    archive.put(2 * 86_400, "r1", "d")
    part = MadeDay("r1", "2026-11-29.2", archive.days["r1"][0])  # a clock that was set back
    part.extent(BEGIN + SECOND, [message("old")])
    part.save(tmp_path)
    followed = history(tmp_path, following=True, positions=restarted(followed))
    assert texts(followed.events()) == ["old", "c", "d"]
    assert set(followed.positions["r1"].logs) == {"2026-11-29.2", "2026-12-01"}
    part.extent(BEGIN + 2 * SECOND, [message("old2")])
    part.save(tmp_path)
    archive.put(2 * 86_400 + 1, "r1", "e")
    archive.put(3 * 86_400, "r1", "f")
    archive.days["r1"][2].remove(BEGIN + 9 * A_DAY)
    archive.days["r1"][2].save(tmp_path, log=False)
    (tmp_path / "r1" / "2026-12-01.log").unlink()
    items = list(history(tmp_path, following=True, positions=restarted(followed)).events())
    assert events_of(items) == ["old2", "f"]
    assert [item.path for item in unread(items)] == [str(tmp_path / "r1" / "2026-12-01")]


def test_lines_are_printed_when_the_ledger_has_them_or_will_never_have_them(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    day = archive.put(0, "r1", "a")
    followed = history(tmp_path, following=True)
    assert texts(followed.events()) == ["a"]
    day.extent(BEGIN + SECOND, [message("b")])
    day.save(tmp_path, ledger=False)
    assert texts(followed.events()) == []
    day.save(tmp_path)
    assert texts(followed.events()) == ["b"]
    kept = (tmp_path / "r1" / "2026-11-29.ledger").read_bytes()
    archive.put(1, "r1", "lost-from-the-ledger")
    archive.put(86_400, "r1", "next")
    (tmp_path / "r1" / "2026-11-29.ledger").write_bytes(kept)
    assert texts(followed.events()) == ["lost-from-the-ledger", "next"]
    assert texts(followed.events()) == []


def test_what_a_crashed_writer_wrote_again_comes_again(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    day = archive.put(0, "r1", "a")
    kept, lines = bytes(day.log), list(day.lines)
    archive.put(1, "r1", "b")
    archive.put(1, "r1", "c")
    followed = history(tmp_path, following=True)
    assert texts(followed.events()) == ["a", "b", "c"]
    day.log[:], day.lines[:] = kept, lines
    archive.put(1, "r1", "c")
    archive.put(1, "r1", "b")
    items = list(history(tmp_path, following=True, positions=restarted(followed)).events())
    assert events_of(items) == ["c", "b"]
    assert [item.is_expected for item in unread(items)] == [True]


def test_a_day_that_cannot_be_read_is_named_once_until_it_changes(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    day = archive.put(0, "r1", "a")
    archive.put(86_400, "r1", "b")
    (tmp_path / "r1" / "2026-11-29.log").unlink()
    broken = tmp_path / "r1" / "2026-11-29.log.gz"
    broken.write_bytes(b"\x1f\x8b broken")
    followed = history(tmp_path, following=True)
    items = list(followed.events())
    assert (events_of(items), [item.path for item in unread(items)]) == (["b"], [str(broken)])
    assert list(followed.events()) == []
    broken.write_bytes(gzip.compress(day.log))
    assert texts(followed.events()) == ["a"]


def test_the_position_is_that_of_the_events_that_were_used(tmp_path: Path) -> None:
    """At any event, a reader that continues from the positions gets exactly the rest."""
    archive = Archive(tmp_path)
    expected = []
    for second in range(6):
        for host in ("r1", "r2"):
            archive.put(second * 30_000, host, f"{host}-{second}", f"{host}-{second}+")
            expected += [f"{host}-{second}", f"{host}-{second}+"]
    for stop in range(len(expected)):
        followed = history(tmp_path, following=True)
        items = followed.events()
        used = texts(next(items) for _ in range(stop))
        next(items)  # asked for, and not used
        rest = texts(history(tmp_path, following=True, positions=restarted(followed)).events())
        assert sorted(used + rest) == sorted(expected)


def test_a_severity_is_that_of_what_can_be_read(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.put(1, "h1", messages=[b"< 11>Nov 29 00:00:01 h1 a: bad", b"<999>Nov 29 00:00:01 h1 a: none", b"<12>odd"])
    assert texts(history(tmp_path, severity=3).events()) == ["bad"]
    assert texts(history(tmp_path, severity=5).events()) == ["bad", "none", "<12>odd"]
