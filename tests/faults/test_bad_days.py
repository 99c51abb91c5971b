"""Crashes at every call and failing calls on a disk that keeps nothing it need not keep."""

import pytest
from harness.bad_days import BadDays, BrokenPromiseError

SEEDS = 400
NOT_NEEDED_FOR_THE_PROMISES = {
    # The copy of a torn tail is for people; what it holds was never accepted.
    "Spool._cut sync",
    "Spool._cut sync_folder",
    # What it is for needs a value of several sectors: tests/faults/test_restarts.py takes it away.
    "Slots._settle sync",
    # What it is for needs several segments to go at once: tests/spool/test_damage_is_counted.py looks at that.
    "Spool.release_oldest sync_folder",
    # It is for a sync that failed and wrote all the same: this disk's failed syncs write nothing.
    "Slots.discard_failed sync",
}


def days(seed: int, without: str = "") -> BadDays:
    lived = BadDays(seed=seed, without=without)
    lived.live()
    lived.settle()
    return lived


def test_nothing_accepted_is_lost_or_numbered_twice_at_any_power_cut() -> None:
    accepted = sum(days(seed).accepted for seed in range(SEEDS))
    assert accepted > SEEDS * 10, "the lives were too short to mean anything"


def test_without_crashes_failing_calls_alone_lose_nothing() -> None:
    for seed in range(SEEDS // 4):
        lived = BadDays(seed=seed)
        lived.live(crashes=False)
        lived.settle()


def sites() -> set[str]:
    """Every place in the code that asks for a sync, as many lives reach them."""
    return set().union(*(days(seed).disk.sites for seed in range(60)))


@pytest.mark.parametrize("site", sorted(sites() - NOT_NEEDED_FOR_THE_PROMISES))
def test_removing_one_sync_breaks_a_promise(site: str) -> None:
    """The test of the test: each sync is there for a reason that these lives can see."""
    for seed in range(SEEDS * 4):
        try:
            days(seed, without=site)
        except BrokenPromiseError:
            return
    pytest.fail(f"nothing was lost without {site}: it is not needed, or these lives are too gentle")


def test_every_kind_of_sync_was_reached() -> None:
    assert {site.split()[1] for site in sites()} == {"sync", "sync_folder"}
    assert len(sites()) >= 6
