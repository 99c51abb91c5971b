"""Who is silent: by receipt, over restarts, and never because of relay's own faults."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from archive.messages import foreign, own
from pydantic import ValidationError

from relay.archive.filing.bound_names import NameBinding
from relay.archive.ledger import Extent
from relay.archive.reading.originator_report import OriginatorReport, read_report
from relay.archive.reading.originators import originators
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.program.watch.silence_watch import (
    FORGOTTEN,
    HEARTBEATS_MISSED,
    MOST_ORIGINATORS,
    MOST_SENDERS,
    SETTLING,
    ArchiveProgress,
    Silences,
    SilenceWatch,
)
from relay.system.disk import Disk
from relay.values.configuration.expect_settings import ReceiverExpect

KEY = "SHA256:router"
SECOND = 1_000_000
DAY = 86_400
NOON = 1_800_000_000 * SECOND
CURRENT = ArchiveProgress((5, 5), (5, 5), hindered=False)


def extent(*kinds: str, at: int = NOON, time: int = NOON, by: str | None = None) -> Extent:
    identities = tuple(("0011223344556677", kind, 1, 1) for kind in kinds)
    return Extent(
        at=(at, at),
        sender="192.0.2.1",
        identity=by,
        via="tcp://[::]:514 syslog",
        off=0,
        len=9,
        n=1,
        time=(time, time),
        id=identities,
    )


class Receiver:
    """A receiver that looks once a second."""

    def __init__(
        self, *reports: OriginatorReport, recalls: bool = True, expected: Mapping[str, str] | None = None
    ) -> None:
        tables = [ReceiverExpect(originator=name, within=within) for name, within in (expected or {}).items()]
        self.watch = SilenceWatch(tables)
        self.boot = random.randint(0, 10**12)
        self.looks = 0
        if recalls:
            self.watch.recall(reports)
        self.found = self.watch.look(self.boot, CURRENT)

    def after(self, seconds: float, progress: ArchiveProgress = CURRENT) -> list[str]:
        """Who is silent, as far as a new silence counts."""
        for _ in range(int(seconds)):
            self.boot += SECOND
            self.found = self.watch.look(self.boot, progress)
        return [each.about for each in (*self.found.originators, *self.found.patterns) if each.settled]

    def silent_so_far(self) -> list[str]:
        """Who is silent, also of those that may be coming back."""
        return [each.about for each in self.found.originators]


def report(name: str, silent: float = 0, own: float | None = None, *, disputed: bool = False) -> OriginatorReport:
    """What the archive knows of an originator that was silent for so long when the receiver stopped."""
    received = NOON - int(silent * SECOND)
    senders = {} if own is None else {"": NOON - int(own * SECOND)}
    return OriginatorReport(name, disputed, received, own_received=sum(senders.values()), own_senders=senders)


def test_a_relay_that_misses_three_heartbeats_is_silent_until_it_is_heard() -> None:
    receiver = Receiver()
    receiver.watch.note("fw1", extent("audit", "relay"))
    assert receiver.after(HEARTBEATS_MISSED - 1) == []
    receiver.watch.note("fw1", extent("audit"))
    assert receiver.after(1) == ["fw1"], "its other events are not heartbeats"
    assert "three heartbeats" in receiver.found.originators[0].text
    receiver.watch.note("fw1", extent("relay"))
    assert receiver.after(1) == []


def test_a_strangers_heartbeats_never_hide_that_a_verified_relay_is_silent() -> None:
    receiver = Receiver(expected={"fw2": "10m"})
    receiver.watch.note("fw1", extent("relay", by=KEY))
    receiver.watch.note("fw2", extent("audit", by=KEY))
    for _ in range(7):
        receiver.watch.note("fw1", extent("relay"))
        receiver.watch.note("fw2", extent("audit"))
        silent = receiver.after(100)
    assert silent == ["fw2", "fw1"]
    assert receiver.found.originators[0].text == (
        "fw2 sent nothing for 10m, the limit in [[receiver.expect]]. Its name is used by an unverified sender; bind it "
        "with [[receiver.originator]]"
    )
    receiver.watch.expect([])
    receiver.watch.note("fw1", extent("relay"))
    assert receiver.after(1) == ["fw1"]
    assert receiver.found.originators[0].text.startswith(f"fw1 with {KEY} has missed three heartbeats: ")
    assert not receiver.watch.is_heard("fw1")


def test_of_two_keys_of_one_name_neither_hides_the_others_silence() -> None:
    receiver = Receiver()
    receiver.watch.note("fw1", extent("relay", by=KEY))
    receiver.watch.note("fw1", extent("relay", by=f"{KEY}2"))
    receiver.after(HEARTBEATS_MISSED - 1)
    assert (receiver.found.contested, receiver.found.unverified) == (1, 0)
    receiver.watch.note("fw1", extent("relay", by=f"{KEY}2"))
    assert receiver.after(1) == ["fw1"]
    text = receiver.found.originators[0].text
    assert f"fw1 with {KEY} has missed" in text
    assert f"Its name is used by {KEY}2; bind it" in text


def test_a_name_that_is_bound_is_one_sender_and_others_are_unverified() -> None:
    receiver = Receiver()
    receiver.watch.bind([NameBinding(names=("fw1",), ssh_keys=frozenset({KEY, f"{KEY}2"}))])
    for by in (KEY, f"{KEY}2", "SHA256:stranger", None):
        receiver.watch.note("fw1", extent("relay", by=by))
    receiver.after(HEARTBEATS_MISSED - 1)
    assert (receiver.found.contested, receiver.found.unverified) == (0, 0)
    receiver.watch.note("fw1", extent("relay", by=f"{KEY}2"))
    assert receiver.after(1) == []


def test_a_relay_of_which_nothing_is_verified_is_called_so() -> None:
    receiver = Receiver(report("fw2", own=0))
    receiver.watch.note("fw1", extent("relay"))
    receiver.after(1)
    assert receiver.found.unverified == 2
    receiver.watch.note("fw1", extent("relay"))
    receiver.after(HEARTBEATS_MISSED)
    assert receiver.found.originators[0].text.startswith("fw2 (unverified) has missed three heartbeats")


def test_verified_senders_of_a_name_are_limited_and_a_stranger_pushes_none_out() -> None:
    receiver = Receiver()
    for number in range(20):
        receiver.watch.note("fw1", extent("relay", by=f"SHA256:{number}"))
        receiver.after(1)
        receiver.watch.note("fw1", extent("relay"))
    receiver.after(HEARTBEATS_MISSED)
    assert receiver.found.originators[0].text.count("SHA256:") == MOST_SENDERS


def test_an_originator_that_is_not_a_relay_is_not_watched_unless_it_is_expected() -> None:
    receiver = Receiver()
    receiver.watch.note("printer", extent())
    assert receiver.after(DAY) == []


def test_every_originator_that_matches_is_expected_by_itself() -> None:
    receiver = Receiver(expected={"fw*": "10m"})
    receiver.watch.note("fw1", extent())
    receiver.watch.note("fw2", extent())
    receiver.after(590)
    receiver.watch.note("fw2", extent())
    assert receiver.after(9) == []
    assert receiver.after(1) == ["fw1"]
    assert receiver.found.originators[0].text == "fw1 sent nothing for 10m, the limit in [[receiver.expect]]"
    assert receiver.after(590) == ["fw1", "fw2"]


def test_an_expected_originator_that_never_came_counts_from_the_start() -> None:
    receiver = Receiver(expected={"fw1": "10m", "db*": "1h"})
    assert receiver.after(599) == []
    assert receiver.after(1) == ["fw1"]
    assert receiver.after(3000) == ["fw1", "db*"]
    receiver.watch.note("db7", extent())
    assert receiver.after(1) == ["fw1"]


def test_the_clocks_of_senders_do_not_matter() -> None:
    receiver = Receiver(expected={"fw1": "10m"})
    for _ in range(10):
        for days in (-1, 1):
            receiver.watch.note("fw1", extent("relay", time=NOON + days * DAY * SECOND))
            assert receiver.after(100) == []


def test_while_the_archive_is_behind_or_relay_accepts_nothing_nobody_becomes_silent() -> None:
    receiver = Receiver(expected={"fw1": "10m"})
    receiver.watch.note("fw1", extent("relay"))
    assert receiver.after(10_000, ArchiveProgress((5, 5), (5, 5), hindered=True)) == []
    assert receiver.after(10_000, ArchiveProgress((5, 5), (5, 6), hindered=False)) == []
    assert receiver.after(100) == []


def test_an_archive_that_is_always_a_little_behind_is_not_behind() -> None:
    receiver = Receiver()
    receiver.watch.note("fw1", extent("relay"))
    for block in range(5, 205):
        found = receiver.after(1, ArchiveProgress((block, 5), (block + 3, 5), hindered=False))
    assert found == ["fw1"]


def test_a_suspended_receiver_does_not_make_everybody_silent() -> None:
    receiver = Receiver()
    receiver.watch.note("fw1", extent("relay"))
    receiver.after(10)
    receiver.boot += 3600 * SECOND
    assert receiver.after(100) == []


def test_a_restart_does_not_begin_a_silence_anew_and_does_not_count_its_own_absence() -> None:
    receiver = Receiver(report("receiver", own=0), report("fw1", silent=100, own=100), report("fw2", silent=5, own=5))
    assert receiver.after(HEARTBEATS_MISSED - 101) == []
    assert receiver.silent_so_far() == []
    receiver.watch.note("receiver", extent("relay"))
    assert receiver.after(1) == []
    assert receiver.silent_so_far() == ["fw1"]
    assert receiver.after(SETTLING - (HEARTBEATS_MISSED - 100)) == ["fw1"]
    assert receiver.after(HEARTBEATS_MISSED - 5 - SETTLING) == ["fw1", "fw2"]


def test_a_silence_from_before_the_start_is_known_at_once_and_new_for_nobody() -> None:
    receiver = Receiver(report("receiver", own=0), report("fw1", silent=1000, own=1000))
    assert receiver.silent_so_far() == ["fw1"]
    assert receiver.after(SETTLING - 1) == []
    receiver.watch.note("receiver", extent("relay"))
    assert receiver.after(1) == ["fw1"]


def test_before_the_archive_is_read_nobody_is_judged() -> None:
    receiver = Receiver(recalls=False, expected={"fw1": "1s"})
    assert receiver.after(100) == []
    assert receiver.found == Silences()
    receiver.watch.recall([])
    assert receiver.after(1) == ["fw1"]


def test_what_came_while_the_archive_was_read_is_not_forgotten() -> None:
    receiver = Receiver(recalls=False)
    receiver.after(100)
    receiver.watch.note("fw1", extent("relay"))
    receiver.watch.recall([report("receiver", own=0), report("fw1", silent=1000, own=1000)])
    receiver.after(1)
    assert receiver.silent_so_far() == []


def test_a_relay_that_is_gone_for_a_week_is_forgotten_and_an_expected_one_is_not() -> None:
    receiver = Receiver(report("receiver", own=0), report("fw1", silent=FORGOTTEN, own=FORGOTTEN))
    receiver.watch.expect([ReceiverExpect(originator="fw2", within="1h")])
    receiver.watch.note("fw2", extent())
    receiver.after(2 * SETTLING)
    assert "fw1" not in receiver.silent_so_far()
    for _ in range(20):
        receiver.after(DAY // 20)
    assert receiver.silent_so_far() == ["fw2", "receiver"]


def test_messages_under_a_disputed_name_prove_nothing_and_those_set_aside_count() -> None:
    receiver = Receiver(expected={"fw1": "10m", "fw2": "10m"})
    receiver.after(599)
    receiver.watch.note("~disputed/fw1", extent("relay"))
    receiver.watch.note("~aside/fw2", extent())
    assert receiver.after(1) == ["fw1"]


def test_a_reload_keeps_the_time_of_what_was_expected_before() -> None:
    receiver = Receiver(expected={"fw1": "10m"})
    receiver.after(300)
    tables = [ReceiverExpect(originator=["fw1", "fw2"], within="10m")]
    receiver.watch.expect(tables)
    assert receiver.after(300) == ["fw1"]
    assert receiver.after(300) == ["fw1", "fw2"]
    receiver.watch.expect([])
    assert receiver.after(1) == []


def test_the_number_of_originators_is_limited() -> None:
    receiver = Receiver()
    for number in range(MOST_ORIGINATORS + 100):
        receiver.watch.note(f"host{number}", extent())
    receiver.after(1)
    assert receiver.found.known == MOST_ORIGINATORS


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"originator": "fw1", "within": "500ms"}, "must be from 1s to 366d"),
        ({"originator": [], "within": "5m"}, "must name at least one"),
        ({"originator": "fw[", "within": "5m"}, "is not a pattern"),
        ({"originator": "fw1"}, "within"),
    ],
)
def test_a_table_that_cannot_be_obeyed_is_a_mistake(table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        ReceiverExpect(**table)


def test_originators_whose_folder_cannot_be_written_are_named_until_it_can() -> None:
    receiver = Receiver()
    receiver.watch.note("~aside/fw2", extent())
    receiver.watch.note("~aside/fw1", extent())
    receiver.after(1)
    assert [*receiver.found.aside] == ["fw1", "fw2"]
    receiver.watch.note("fw1", extent())
    receiver.after(1)
    assert [*receiver.found.aside] == ["fw2"]


def test_a_real_writer_reports_relays_and_folders_that_cannot_be_written(tmp_path: Path) -> None:
    receiver = Receiver()
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "broken").touch()  # a file where a folder should be
    with ArchiveWriter(str(tmp_path / "archive"), "00", committed=receiver.watch.note) as writer:
        writer.write(own(1, host="fw1", kind="relay"), NOON)
        writer.write(own(1, host="fw2"), NOON)
        writer.write(foreign(1, host="broken"), NOON)
        writer.commit(b"cursor")
    assert receiver.after(HEARTBEATS_MISSED) == ["fw1"]
    assert [*receiver.found.aside] == ["broken"]
    reports = [read_report(Disk(), folder) for folder in originators(Disk(), str(tmp_path / "archive"))]
    again = Receiver(*reports, report("receiver", silent=-HEARTBEATS_MISSED))
    assert "fw1" in again.silent_so_far(), "the next run knows it from the archive"
    assert again.found.known == 4
