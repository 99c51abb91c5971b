"""Messages whose identity was seen before: compared with what is stored, wherever that lies."""

import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from archive.messages import DAY_US, NOON_US, limits, own
from archive.plain_reader import read_archive

from relay.archive import ledger
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.archive.writer.repetitions import ComparisonBudget, is_same
from relay.values.provenance import Provenance, ReceiptMark

ROUTER = Provenance("192.0.2.7", "SHA256:router", "ssh://0.0.0.0:2222")
FORGER = Provenance("198.51.100.9", "", "tcp://0.0.0.0:514")
DAY = "2024-03-06"


@pytest.fixture(params=["waiting", "written out", "committed", "closed"])
def stage(request: pytest.FixtureRequest) -> str:
    """Where the first message is when the second comes."""
    return str(request.param)


def taken(
    archive: Path, first: list[bytes], second: list[bytes], stage: str, sender: Provenance = ROUTER
) -> list[bool]:
    """Write the first messages, bring them to the stage, and write the second: which of these were stored."""
    writer = ArchiveWriter(str(archive), "spool", limits=limits(max_pending=0 if stage == "written out" else 10**7))
    with writer:
        for message in first:
            assert writer.write(message, NOON_US, ROUTER)
        day = 0
        if stage in {"committed", "closed"}:
            writer.commit(b"1")
        if stage == "closed":
            day = 1
            writer.write(own(999, host="other"), NOON_US + DAY_US, ROUTER)
            writer.commit(b"2")
        stored = [writer.write(message, NOON_US + day * DAY_US, sender) for message in second]
        writer.commit(b"3")
    read_archive(archive)
    return stored


def marks_of(archive: Path) -> list[list[str]]:
    return [line.marks for line in read_archive(archive) if line.marks]


def test_the_same_octets_are_dropped(tmp_path: Path, stage: str) -> None:
    messages = [own(number, text="a\nb #012") for number in range(1, 50)]
    assert taken(tmp_path, messages, messages, stage) == [False] * 49


def test_other_octets_are_kept_and_marked_and_their_own_repetition_is_dropped(tmp_path: Path, stage: str) -> None:
    """A forger who knows an originator's identities and sends first must not make the archive drop its events."""
    forged = [own(number, text="forged") for number in range(1, 10)]
    genuine = [own(number, text="genuine") for number in range(1, 10)]
    assert taken(tmp_path, forged, [*genuine, *genuine, *forged], stage, FORGER) == [True] * 9 + [False] * 18
    found = read_archive(tmp_path)
    assert {line.message for line in found} >= {*forged, *genuine}
    assert [line.marks for line in found if b"genuine" in line.message] == [["differs"]] * 9
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        assert not writer.write(genuine[0], NOON_US)
        assert writer.write(own(1, text="a third"), NOON_US, FORGER)
        writer.commit(b"9")
        assert (writer.counters.duplicates, writer.counters.differing) == (1, 1)
        assert "router1: run 5f, number 1, from 198.51.100.9" in writer.counters.last_difference


def test_a_message_that_differs_only_in_its_truncation_is_dropped(tmp_path: Path, stage: str) -> None:
    cut = own(1).replace(b'router="r"', b'router="r" truncated="1"')
    assert taken(tmp_path, [own(1)], [cut], stage) == [False]


def test_the_whole_after_its_parts_is_dropped_only_if_the_same_sender_sent_both(tmp_path: Path, stage: str) -> None:
    parts = [own(1, part="1/2", text="a"), own(1, part="2/2", text="b")]
    assert taken(tmp_path / "a", parts, [own(1), own(1, part="1/3")], stage) == [False, False]
    assert taken(tmp_path / "b", parts, [own(1)], stage, FORGER) == [True]
    assert marks_of(tmp_path / "b") == [["uncompared"]]
    assert taken(tmp_path / "c", [own(1)], parts, stage) == [False, False]


@pytest.mark.parametrize("mark", [ReceiptMark.CUT, ReceiptMark.UNTERMINATED, ReceiptMark.FORWARDED])
def test_what_may_be_incomplete_or_is_not_relays_own_never_counts_as_seen(tmp_path: Path, mark: ReceiptMark) -> None:
    """The whole message is stored beside it, also after the identities were read from the ledgers."""
    for number in (1, 2):
        with ArchiveWriter(str(tmp_path), "spool") as writer:
            assert writer.write(own(number)[:-1], NOON_US, ROUTER, mark)
            assert writer.write(own(number)[:-1], NOON_US, ROUTER, mark)
            writer.commit(b"1")
        (tmp_path / ".relay" / "journal").unlink()
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        assert writer.write(own(1), NOON_US, ROUTER)
        assert not writer.write(own(1), NOON_US, ROUTER)
        writer.commit(b"2")
    assert marks_of(tmp_path) == [list(mark.labels)] * 4


def compressed(log: Path) -> None:
    log.with_name(f"{log.name}.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()


def compressed_by_xz(log: Path) -> None:
    log.with_name(f"{log.name}.xz").write_bytes(lzma.compress(log.read_bytes()))
    log.unlink()


def removed_by_retention(log: Path) -> None:
    path = log.with_suffix(".ledger")
    last = path.read_bytes().splitlines(keepends=True)[-1]
    path.write_bytes(path.read_bytes() + ledger.encode(ledger.Removal(removed=1, cause="age"), last))
    log.unlink()


def overwritten(log: Path) -> None:
    log.write_bytes(log.read_bytes().replace(b"genuine", b"changed"))


def emptied(log: Path) -> None:
    log.write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "stored", "mark"),
    [
        (compressed, False, []),
        (compressed_by_xz, False, []),
        (removed_by_retention, False, []),
        (Path.unlink, True, ["uncompared"]),
        (emptied, True, ["uncompared"]),
        (overwritten, True, ["differs"]),
        (lambda log: shutil.rmtree(log.parent), True, ["uncompared"]),
    ],
)
def test_what_others_did_to_a_closed_day_decides(
    tmp_path: Path, change: Callable[[Path], None], stored: bool, mark: list[str]
) -> None:
    messages = [own(number, text="genuine") for number in range(1, 20)]
    assert taken(tmp_path, messages, messages[:1], "closed") == [False]
    change(tmp_path / "router1" / f"{DAY}.log")
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        assert [writer.write(message, NOON_US + DAY_US, ROUTER) for message in messages] == [stored] * 19
        writer.commit(b"4")
        assert writer.counters.removed_duplicates == 19 * (change is removed_by_retention)
    if stored:
        lines = (tmp_path / "router1" / "2024-03-07.ledger").read_bytes().splitlines()
        assert [extent["marks"] for extent in map(json.loads, lines) if "marks" in extent] == [{"0-18": mark}]


def test_a_forged_message_that_retention_has_removed_suppresses_nothing(tmp_path: Path) -> None:
    assert taken(tmp_path, [own(1, text="forged")], [], "closed") == []
    removed_by_retention(tmp_path / "router1" / f"{DAY}.log")
    moved = ROUTER._replace(peer="192.0.2.8")
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        assert writer.write(own(1), NOON_US + DAY_US, FORGER)
        assert not writer.write(own(1), NOON_US + DAY_US, moved)
        writer.commit(b"4")


def test_senders_with_invented_addresses_share_a_budget() -> None:
    """Each datagram may have another sender's address; reading ledgers for it must not stop the archive."""
    budget = ComparisonBudget(budget=1000, of_all=3000, clock=lambda: 0.0)
    granted = 0.0
    for number in range(50):
        left = max(budget.earn(f"192.0.2.{number}", 0, is_verified=False), 0)
        budget.spend(f"192.0.2.{number}", int(left), is_verified=False)
        granted += left
    assert granted == 3000
    assert budget.earn("SHA256:key", 0) == 1000


def test_a_sender_has_a_budget_of_its_own() -> None:
    budget = ComparisonBudget(budget=1000, clock=lambda: 0.0)
    assert budget.earn("a", 10) == 1000
    budget.spend("a", 5000)
    assert budget.earn("a", 100) == 1000 - 5000 + 300
    assert budget.earn("b", 100) == 1000


def test_a_run_of_repetitions_reads_each_extent_once(tmp_path: Path) -> None:
    """A router sends again what was not proven: 3,000 messages of 100 commits, in order."""
    messages = [own(number) for number in range(1, 3001)]
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        for number, message in enumerate(messages, 1):
            writer.write(message, NOON_US, ROUTER)
            if number % 30 == 0:
                writer.commit(b"%d" % number)
        assert not any(writer.write(message, NOON_US, ROUTER) for message in messages)
        read = writer._repetitions._stored.octets_read
    assert read <= sum(path.stat().st_size for path in (tmp_path / "router1").iterdir())


def test_what_is_the_same() -> None:
    long = own(1, text="x" * 5000)
    assert is_same(long, long.replace(b'type="audit"', b'relayPart="1/2" type="audit"'))
    assert not is_same(long, long + b"x")
    assert not is_same(own(1), own(1, text="2"))


def test_a_part_that_a_crash_left_empty_in_the_other_format_hides_nothing(tmp_path: Path) -> None:
    crashed = ArchiveWriter(str(tmp_path), "spool", archive_format="json", limits=limits(max_pending=0))
    crashed.write(own(1), NOON_US, ROUTER)
    crashed.close()  # nothing is committed: its files will be cut
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        writer.write(own(1), NOON_US, ROUTER)
        writer.commit(b"1")
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        assert not writer.write(own(1), NOON_US, ROUTER)
        writer.commit(b"2")
        assert (writer.counters.duplicates, writer.counters.uncompared) == (1, 0)
