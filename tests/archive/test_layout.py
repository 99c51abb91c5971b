"""The names of an archive's files."""

from relay.archive.layout import DayFiles, begin_of, day_of, days_in, possible_names, unknown_in

NAMES = [
    "2026-11-30.ledger",
    "2026-11-30.log",
    "2026-11-27.log.zst",
    "2026-11-27.ledger",
    "2026-11-30.2.jsonl",
    "2026-11-26.ledger",
    "2026-11-31.log",
    "2026-11-30.1.log",
    "2026-11-30.log.bak",
    "notes",
]


def test_days_are_found_in_their_order() -> None:
    """Parts follow their day, and a day whose log was removed is still there."""
    assert days_in(NAMES) == [
        DayFiles("2026-11-26", 1, (), "2026-11-26.ledger"),
        DayFiles("2026-11-27", 1, ("2026-11-27.log.zst",), "2026-11-27.ledger"),
        DayFiles("2026-11-30", 1, ("2026-11-30.log",), "2026-11-30.ledger"),
        DayFiles("2026-11-30", 2, ("2026-11-30.2.jsonl",), ""),
    ]
    assert days_in(NAMES)[-1].stem == "2026-11-30.2"


def test_foreign_names_are_reported() -> None:
    """Names that no writer makes: impossible days, part 1, other endings."""
    assert unknown_in([*NAMES, "2026-11-30.log.zst.new"]) == [
        "2026-11-30.1.log",
        "2026-11-30.log.bak",
        "2026-11-31.log",
        "notes",
    ]


def test_days_and_times() -> None:
    """A day begins at midnight UTC, and times beyond the calendar have a day too."""
    assert day_of(begin_of("2026-11-30")) == "2026-11-30"
    assert day_of(begin_of("2026-11-30") - 1) == "2026-11-29"
    assert (day_of(-(2**62)), day_of(2**62)) == ("0001-01-01", "9999-12-31")


def test_the_names_that_a_log_may_have_by_now_begin_with_the_plain_one() -> None:
    assert possible_names(["2026-11-30.log.gz", "2026-11-30.log"]) == [
        "2026-11-30.log",
        "2026-11-30.log.zst",
        "2026-11-30.log.gz",
        "2026-11-30.log.xz",
    ]
    assert possible_names([]) == []
