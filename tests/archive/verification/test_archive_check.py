"""What the check of an archive finds: in archives of the real writer, and in archives that somebody changed."""

import gzip
import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterable
from ipaddress import ip_network
from pathlib import Path

import pytest
from archive.messages import DAY_US, NOON_US, foreign, limits, own
from archive.relay_events import RUN, heartbeat, numbered, opening
from harness.made_archive import SECOND, MadeDay

from relay.archive.completeness.assessment import AssessmentScope
from relay.archive.filing.bound_names import NameBinding
from relay.archive.filing.filing_policy import FilingPolicy, FilingTerms
from relay.archive.layout import begin_of
from relay.archive.verification.archive_check import ArchiveCheck
from relay.archive.verification.findings import ArchiveNotice, CheckedOriginator
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.errors import NoInputError
from relay.system.disk import Disk
from relay.values.provenance import Provenance

LIMIT = 8 * 1024 * 1024
"""Octets that a check of an archive of any size can take, with one originator and one run."""
BEGIN = begin_of("2024-03-06")


def keep(archive: Path, messages: Iterable[bytes], day: int = 0) -> None:
    with ArchiveWriter(str(archive), "spool") as writer:
        put(writer, messages, day)


def put(writer: ArchiveWriter, messages: Iterable[bytes], day: int = 0) -> None:
    for message in messages:
        writer.write(message, NOON_US + day * DAY_US)
    writer.commit(b"1")


KEY = "SHA256:router"


def checked(archive: Path, first_day: str = "") -> tuple[ArchiveCheck, dict[str, CheckedOriginator]]:
    check = ArchiveCheck(Disk(), str(archive), AssessmentScope(begun=bool(first_day)), first_day)
    return check, {each.name: each for each in check.originators()}


def kinds(items: Iterable[object]) -> list[str]:
    return [item.kind for item in items]  # type: ignore[attr-defined]  # a defect, a notice or a finding


def only_log(archive: Path, name: str = "router1") -> Path:
    (path,) = (archive / name).glob("*.log")
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    keep(tmp_path, [*numbered(1, 2, 3), foreign(7)])
    return tmp_path


# --- A whole archive ---


def test_days_and_originators_are_checked_one_after_the_other(archive: Path) -> None:
    keep(archive, numbered(4, 5), day=1)
    check, found = checked(archive)
    assert list(found) == ["router1", "switch1"]
    assert all(each.whole for each in found.values())
    assert found["router1"].days == ("2024-03-06", "2024-03-07")
    assert found["router1"].octets == sum(path.stat().st_size for path in (archive / "router1").glob("*.log"))
    assert (found["router1"].extents, found["router1"].completeness.numbered) == (2, 5)
    assert (check.pid, check.has_journal, check.places, check.notices) == (None, True, [], [])


def test_an_empty_archive_is_whole(tmp_path: Path) -> None:
    keep(tmp_path, ())
    check, found = checked(tmp_path)
    assert (check.has_journal, check.places, found) == (True, [], {})


def test_a_folder_that_is_not_an_archive_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(NoInputError):
            checked(path)


@pytest.mark.parametrize("suffix", [".log", ".jsonl"])
def test_a_chain_of_days_parts_and_relays_own_events(tmp_path: Path, suffix: str) -> None:
    form = {".log": "text", ".jsonl": "json"}[suffix]
    with ArchiveWriter(str(tmp_path), "spool", archive_format=form, limits=limits()) as writer:
        put(writer, [opening(), *numbered(1, 2)])
        put(writer, [*numbered(3), heartbeat(2, audit=4)], day=1)
        put(writer, numbered(5), day=0)
    check, found = checked(tmp_path)
    assert (check.places, check.notices, found["router1"].places) == ([], [], ())
    assert found["router1"].completeness.faults[0].ranges == ((4, 4),)
    assert len(list((tmp_path / "router1").glob(f"*{suffix}"))) == 3


# --- Changes ---


def three_days(archive: Path) -> list[MadeDay]:
    days: list[MadeDay] = []
    for number, stem in enumerate(("2024-03-06", "2024-03-07", "2024-03-08")):
        day = MadeDay("router1", stem, days[-1] if days else None)
        for extent in range(3):
            numbers = range(number * 6 + extent * 2 + 1, number * 6 + extent * 2 + 3)
            day.extent(BEGIN + number * DAY_US + extent * SECOND, [own(each, run=RUN.hex()) for each in numbers])
        if number < 2:
            day.close(BEGIN + (number + 1) * DAY_US)
        day.save(archive)
        days.append(day)
    return days


def replaced(path: Path, old: bytes, new: bytes) -> None:
    octets = path.read_bytes()
    assert octets.count(old) >= 1
    path.write_bytes(octets.replace(old, new, 1))


def without_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[number]
    path.write_bytes(b"".join(lines))


LOG, LEDGER = "2024-03-07.log", "2024-03-07.ledger"
CHANGES: list[tuple[Callable[[Path], object], list[tuple[str, str, int, int]]]] = [
    (lambda log: replaced(log, b"] 9\n", b"] 8\n"), [("altered", LOG, 3, 4)]),
    (lambda log: without_line(log, 2), [("altered", LOG, 3, 3), ("log cut", LOG, 4, 0)]),
    (lambda log: replaced(ledger(log), b'"192.0.2.1"', b'"192.0.2.9"'), [("altered", LOG, 1, 4)]),
    (lambda log: without_line(ledger(log), 2), [("altered", LOG, 3, 4)]),
    (lambda log: replaced(ledger(log), b'{"at"', b'{"AT"'), [("not a ledger line", LEDGER, 2, 2)]),
    (lambda log: without_line(log.with_name("2024-03-06.ledger"), 4), [("ledger altered", LEDGER, 1, 1)]),
    (lambda log: log.unlink(), [("log missing", "2024-03-07", 0, 0)]),
    (lambda log: ledger(log).unlink(), [("ledger missing", LEDGER, 0, 0)]),
    (lambda log: log.write_bytes(b""), [("log cut", LOG, 1, 0)]),
    (lambda log: log.write_bytes(log.read_bytes() + b"<13>1 - - - - - - more\n"), [("unrecorded", LOG, 0, 0)]),
]


def ledger(log: Path) -> Path:
    return log.with_suffix(".ledger")


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_each_change_is_found_where_it_is(
    tmp_path: Path, change: Callable[[Path], object], expected: list[tuple[str, str, int, int]]
) -> None:
    three_days(tmp_path)
    assert checked(tmp_path)[1]["router1"].whole
    change(tmp_path / "router1" / LOG)
    _, found = checked(tmp_path)
    places = [(place.kind, place.path.rpartition("/")[2], place.first, place.last) for place in found["router1"].places]
    assert places[: len(expected)] == expected
    assert len(places) <= len(expected) + 2
    assert not found["router1"].whole


def test_every_changed_octet_of_a_closed_day_is_found(tmp_path: Path) -> None:
    three_days(tmp_path)
    for name in ("2024-03-06.log", "2024-03-06.ledger"):
        path = tmp_path / "router1" / name
        octets = path.read_bytes()
        for place in (*range(0, len(octets), 13), len(octets) - 1):
            changed = bytearray(octets)
            changed[place] ^= 1
            path.write_bytes(changed)
            assert not checked(tmp_path)[1]["router1"].whole, (name, place)
        path.write_bytes(octets)


def written_days(archive: Path) -> Path:
    """Days of fw1, fw2 and old without numbers; the last day of fw1 and fw2 is open."""
    with ArchiveWriter(str(archive), "spool", limits=limits()) as writer:
        for day in range(3):
            for host in ("fw1", "fw2", "old")[: 3 if day < 2 else 2]:
                put(writer, [foreign(number, host=host) for number in range(day * 2, day * 2 + 2)], day)
    return archive


def copied_day(source: Path, target: Path, *, moved: bool = False) -> None:
    target.parent.mkdir(exist_ok=True)
    for suffix in (".log", ".ledger"):
        shutil.copy(f"{source}{suffix}", f"{target}{suffix}")
        if moved:
            Path(f"{source}{suffix}").unlink()


def appended(path: Path, octets: bytes) -> None:
    with path.open("ab") as file:
        file.write(octets)


def without_end(path: Path, lines: int) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-lines]))


def with_another_last_octet(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    "change",
    [
        lambda archive: copied_day(archive / "fw1/2024-03-07", archive / "fw1/2024-03-07.2"),
        lambda archive: copied_day(archive / "fw1/2024-03-07", archive / "fw1/2024-03-09"),
        lambda archive: copied_day(archive / "fw1/2024-03-06", archive / "fw1/2024-03-01"),
        lambda archive: copied_day(archive / "fw1/2024-03-06", archive / "fw9/2024-03-06"),
        lambda archive: copied_day(archive / "old/2024-03-07", archive / "old/2024-03-09", moved=True),
        lambda archive: (archive / "old").rename(archive / "older"),
    ],
)
def test_a_copied_or_renamed_day_is_found_although_its_chain_is_whole(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    change(written_days(tmp_path))
    _, found = checked(tmp_path)
    places = [place for each in found.values() for place in each.places]
    assert set(kinds(places)) == {"misplaced"}
    assert all(place.cause.startswith("it was written for ") for place in places)


@pytest.mark.parametrize(
    ("change", "defects", "notices"),
    [
        (lambda archive: without_end(archive / "old/2024-03-07.ledger", 1), [], ["unclosed"]),
        (lambda archive: without_end(archive / "old/2024-03-07.ledger", 2), ["unrecorded"], ["unclosed"]),
        (
            lambda archive: with_another_last_octet(archive / "old/2024-03-07.ledger"),
            ["not a ledger line"],
            ["unclosed"],
        ),
        (lambda archive: with_another_last_octet(archive / "fw1/2024-03-08.ledger"), ["not a ledger line"], []),
        (
            lambda archive: with_another_last_octet(archive / "fw1/2024-03-07.ledger"),
            ["not a ledger line", "ledger altered"],
            [],
        ),
    ],
)
def test_the_end_of_a_ledger_is_compared_with_the_journal(
    tmp_path: Path, change: Callable[[Path], object], defects: list[str], notices: list[str]
) -> None:
    change(written_days(tmp_path))
    for _ in range(2):
        _, found = checked(tmp_path)
        assert [kind for each in found.values() for kind in kinds(each.places)] == defects
        assert [kind for each in found.values() for kind in kinds(each.notices)] == notices
        with ArchiveWriter(str(tmp_path), "spool"):  # a running writer adds to none of these
            _, found = checked(tmp_path)
            assert [kind for each in found.values() for kind in kinds(each.notices)] == notices


def test_a_day_that_retention_removes_while_the_archive_is_checked_is_removed(tmp_path: Path) -> None:
    days = three_days(tmp_path)
    originators = ArchiveCheck(Disk(), str(tmp_path), AssessmentScope())

    class Removing(Disk):
        """Lists a folder before retention removes a day."""

        def names(self, folder: str) -> list[str]:
            found = super().names(folder)
            if folder.endswith("router1"):
                days[0].remove(BEGIN + 9 * DAY_US)
                days[0].save(tmp_path, log=False)
                (tmp_path / "router1/2024-03-06.log").unlink(missing_ok=True)
                days[0].lines.pop()
            return found

    check = ArchiveCheck(Removing(), str(tmp_path), AssessmentScope())
    (found,) = check.originators()
    assert (found.places, kinds(found.notices)) == ((), ["removed"])
    assert all(each.whole for each in originators.originators())


def test_a_day_that_begins_while_the_archive_is_checked_is_open(tmp_path: Path) -> None:
    written_days(tmp_path)
    with ArchiveWriter(str(tmp_path), "spool", limits=limits()) as writer:
        check = ArchiveCheck(Disk(), str(tmp_path), AssessmentScope())
        put(writer, [foreign(9, host="fw1")], day=3)
        appended(tmp_path / "fw1/2024-03-09.log", b"<13>half a mess")
        found = {each.name: each for each in check.originators()}
    assert (found["fw1"].whole, found["fw1"].notices, found["fw1"].being_written) == (True, (), 15)


def test_without_a_journal_octets_behind_the_ledger_are_named(tmp_path: Path) -> None:
    written_days(tmp_path)
    shutil.rmtree(tmp_path / ".relay")
    appended(tmp_path / "fw1/2024-03-08.log", b"<13>more\n")
    _, found = checked(tmp_path)
    assert [(notice.kind, notice.octets) for notice in found["fw1"].notices] == [("undescribed", 9)]


def test_a_chain_that_begins_anew_is_named(tmp_path: Path) -> None:
    written_days(tmp_path)
    shutil.rmtree(tmp_path / ".relay")
    day = MadeDay("fw1", "2024-03-08")
    day.extent(BEGIN, [foreign(1, host="fw1")])
    day.save(tmp_path)
    assert kinds(checked(tmp_path)[1]["fw1"].notices) == ["begins anew"]


def test_a_log_of_another_name_beside_the_ledgers_is_foreign(archive: Path) -> None:
    other = only_log(archive).with_suffix(".jsonl")
    other.write_text("{}\n")
    check, found = checked(archive)
    assert check.notices == [ArchiveNotice("foreign", str(other))]
    assert found["router1"].whole


def test_numbers_that_are_there_twice(tmp_path: Path) -> None:
    day = MadeDay("router1", "2024-03-06")
    day.extent(BEGIN, [own(1), own(2), own(3)], identity=KEY)
    day.extent(BEGIN, [own(2, text="other"), own(3)], identity=KEY, marks={0: ("differs",), 1: ("uncompared",)})
    day.extent(BEGIN, [own(1)], identity=KEY)
    day.save(tmp_path)
    _, found = checked(tmp_path)
    router = found["router1"]
    assert [(place.kind, place.number, place.first, place.last) for place in router.places] == [
        ("differs", 2, 4, 4),
        ("duplicate", 1, 6, 6),
    ]
    assert [(notice.kind, notice.times) for notice in router.notices] == [("uncompared", 1)]


# --- Retention, compression, parts ---


def test_removed_and_compressed_days_are_named_and_not_faults(tmp_path: Path) -> None:
    days = three_days(tmp_path)
    folder = tmp_path / "router1"
    days[0].remove(BEGIN + 9 * DAY_US)
    days[0].save(tmp_path, log=False)
    (folder / "2024-03-06.log").unlink()
    (folder / "2024-03-07.log.gz").write_bytes(gzip.compress((folder / "2024-03-07.log").read_bytes()))
    (folder / "2024-03-07.log").unlink()
    _, found = checked(tmp_path)
    assert found["router1"].whole
    assert kinds(found["router1"].notices) == ["removed", "compressed"]
    assert found["router1"].notices[0].detail == "on 2024-03-15 (age)"
    (folder / "2024-03-07.log.gz").write_bytes(b"\x1f\x8b damaged")
    assert kinds(checked(tmp_path)[1]["router1"].places) == ["unreadable"]


def test_a_log_that_relay_noticed_missing_has_the_time(tmp_path: Path) -> None:
    three_days(tmp_path)
    (tmp_path / "router1" / "2024-03-07.log").unlink()
    (tmp_path / ".relay").mkdir()
    (tmp_path / ".relay" / "vanished.json").write_text(json.dumps({"router1/2024-03-07": BEGIN}))
    (place,) = checked(tmp_path)[1]["router1"].places
    assert place.cause == "relay noticed it at 2024-03-06T00:00:00.000Z"


def test_a_part_of_an_archive_begins_in_the_middle(tmp_path: Path) -> None:
    three_days(tmp_path)
    for name in ("2024-03-06.log", "2024-03-06.ledger"):
        (tmp_path / "router1" / name).unlink()
    _, found = checked(tmp_path)
    assert found["router1"].whole
    assert [(notice.kind, notice.detail) for notice in found["router1"].notices] == [
        ("begins in the middle", "2024-03-06.ledger")
    ]


def test_disputed_messages_are_named_and_their_numbers_are_not_assessed(tmp_path: Path) -> None:
    three_days(tmp_path)
    day = MadeDay("router1", "2024-03-06")
    day.extent(BEGIN, [own(5), foreign(1)], marks={0: ("disputed",), 1: ("disputed",)})
    day.save(tmp_path / "~disputed")
    _, found = checked(tmp_path)
    assert found["~disputed/router1"].whole
    completeness = found["~disputed/router1"].completeness
    assert (completeness.messages, completeness.numbered, completeness.missing) == (2, 1, 0)
    assert kinds(found["~disputed/router1"].notices) == ["disputed"]


@pytest.mark.parametrize("has_journal", [True, False])
def test_numbers_that_are_stored_aside_are_not_missing(tmp_path: Path, *, has_journal: bool) -> None:
    """As after a time in which the originator's own folder could not be written."""
    keep(tmp_path, numbered(1, 2))
    (tmp_path / "router1").rename(tmp_path / "kept")
    (tmp_path / "router1").touch()
    keep(tmp_path, numbered(3, 4))
    (tmp_path / "router1").unlink()
    (tmp_path / "kept").rename(tmp_path / "router1")
    keep(tmp_path, numbered(5, 6))
    if not has_journal:
        shutil.rmtree(tmp_path / ".relay")
    _, found = checked(tmp_path)
    assert [(each.name, each.whole, each.completeness.messages) for each in found.values()] == [
        ("router1", True, 4),
        ("~aside/router1", True, 2),
    ]
    assert kinds(found["~aside/router1"].notices) == ["was changed", "aside"]
    shutil.rmtree(tmp_path / "~aside")
    _, found = checked(tmp_path)
    assert found["router1"].completeness.missing == 2


def test_disputed_messages_are_stored_aside_where_readers_look(tmp_path: Path) -> None:
    (tmp_path / "~disputed").touch()
    binding = NameBinding(names=("router1",), networks=(ip_network("192.0.2.1/32"),))
    policy = FilingPolicy(FilingTerms(bindings=(binding,)))
    with ArchiveWriter(str(tmp_path), "spool", policy=policy) as writer:
        writer.write(own(7), NOON_US, Provenance("192.0.2.2"))
        writer.commit(b"1")
    _, found = checked(tmp_path)
    counts = {name: each.completeness.messages for name, each in found.items()}
    assert counts == {"~aside/~disputed~router1": 1, "~disputed/router1": 0}  # which the journal knows
    assert found["~aside/~disputed~router1"].whole


def test_a_file_in_the_place_of_an_originators_folder_does_not_stop_the_check(archive: Path) -> None:
    shutil.rmtree(archive / "router1")
    (archive / "router1").touch()
    check, found = checked(archive)
    assert found["router1"].completeness.missing == 3
    assert "gone" in kinds(check.places)
    assert "foreign" in kinds(check.notices)


# --- What is being written ---


def test_lines_behind_the_ledger_are_being_written_while_a_writer_runs(archive: Path) -> None:
    with ArchiveWriter(str(archive), "spool"), only_log(archive).open("ab") as file:
        file.write(own(9) + b"\n<13>1 half a mess")
        file.flush()
        check, found = checked(archive)
        assert found["router1"].whole
        assert found["router1"].being_written == len(own(9)) + 18
        assert check.pid is not None
    check, found = checked(archive)
    assert [(place.kind, place.octets) for place in check.places] == [("added", len(own(9)) + 18)]
    assert found["router1"].completeness.numbered == 4


# --- The journal ---


def test_the_journal_knows_what_was_cut_or_removed(archive: Path) -> None:
    router, switch = only_log(archive), only_log(archive, "switch1")
    size, switch_size = router.stat().st_size, switch.stat().st_size
    router.write_bytes(router.read_bytes()[: size // 3])
    ledger = router.with_suffix(".ledger")
    ledger.write_bytes(ledger.read_bytes().splitlines(keepends=True)[0])
    shutil.rmtree(archive / "switch1")
    check, found = checked(archive)
    assert [(place.kind, place.path) for place in check.places][:2] == [("cut", str(router)), ("cut", str(ledger))]
    assert [(place.kind, place.octets) for place in check.places][2] == ("gone", switch_size)
    (gone,) = found["router1"].completeness.faults
    assert (gone.kind, gone.ranges) == ("gone", ((2, 3),))


def test_an_originator_whose_folder_is_gone_is_assessed_by_the_journal(archive: Path) -> None:
    shutil.rmtree(archive / "router1")
    _, found = checked(archive)
    (gone,) = found["router1"].completeness.faults
    assert (gone.kind, gone.ranges, found["router1"].days) == ("gone", ((1, 3),), ())


@pytest.mark.parametrize("octets", [0, 3, 8, 20, None])
def test_a_damaged_journal_is_a_fault(archive: Path, octets: int | None) -> None:
    """No crash leaves one: it takes its place with its first entry in it."""
    journal = archive / ".relay" / "journal"
    data = bytearray(journal.read_bytes())
    data[40] ^= 1
    journal.write_bytes(data if octets is None else data[:octets])
    check, _ = checked(archive)
    assert kinds(check.places) == ["index"]


def test_without_a_journal_the_ledgers_alone_count(archive: Path) -> None:
    shutil.rmtree(archive / ".relay")
    check, found = checked(archive)
    assert (check.has_journal, check.places) == (False, [])
    assert found["router1"].whole


def test_with_a_first_day_older_files_and_their_numbers_are_left_out(archive: Path) -> None:
    keep(archive, [*numbered(4, 6, 7), heartbeat(9, audit=7, relay=8)], day=1)
    _, found = checked(archive, "2024-03-07")
    assert found["router1"].completeness.faults[0].ranges == ((5, 5),)
    assert (found["router1"].completeness.messages, found["router1"].defects) == (4, 0)
    assert "switch1" in found
    for name in ("2024-03-06.log", "2024-03-06.ledger"):
        (archive / "router1" / name).unlink()
    check, found = checked(archive, "2024-03-07")
    assert (check.places, found["router1"].completeness.missing) == ([], 1)


# --- What else is there ---


def test_files_that_relay_did_not_make_are_named_and_not_read(archive: Path) -> None:
    strange = [archive / "notes", archive / "lost+found", archive / "router1" / "old.tar"]
    strange[0].touch()
    strange[1].mkdir()
    strange[2].touch()
    check, found = checked(archive)
    assert sorted(check.notices) == sorted(ArchiveNotice("foreign", str(path)) for path in strange)
    assert found["router1"].whole


def test_modes_that_let_others_write_are_named(archive: Path) -> None:
    path = only_log(archive)
    path.chmod(0o620)
    (archive / "switch1").chmod(0o777)
    check, _ = checked(archive)
    assert check.notices == [ArchiveNotice("open", str(path)), ArchiveNotice("open", str(archive / "switch1"))]


def test_copies_of_what_the_writer_cut_are_named(archive: Path) -> None:
    writer = ArchiveWriter(str(archive), "spool")
    put(writer, numbered(4))
    writer._logs.files.close_all()
    writer._lock.release()
    with only_log(archive).open("ab") as file:
        file.write(b"500 <13>1 half a mess")
    check, _ = checked(archive)
    assert check.notices == [ArchiveNotice("uncommitted", str(only_log(archive)), 21)]
    keep(archive, ())
    check, found = checked(archive)
    assert kinds(check.notices) == ["copy"]
    assert found["router1"].whole


@pytest.mark.parametrize("suffix", [".log", ".ledger"])
def test_what_was_added_after_the_writer_had_stopped_is_found(archive: Path, suffix: str) -> None:
    with only_log(archive).with_suffix(suffix).open("ab") as file:
        file.write(b"<13>1 forged\n")
    check, _ = checked(archive)
    assert [(place.kind, place.octets) for place in check.places] == [("added", 13)]


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    day = MadeDay("router1", "2024-03-06")
    text = "x" * 40_000
    for number in range(1, 1001):
        day.extent(BEGIN + number, [own(number, text=text)])
    path = day.save(tmp_path) / "2024-03-06.log"
    tracemalloc.start()
    try:
        _, found = checked(tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found["router1"].whole, found["router1"].completeness.numbered) == (True, 1000)
    assert path.stat().st_size > 4 * LIMIT
    assert most < LIMIT
