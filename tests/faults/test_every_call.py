"""Every single call of the disk fails, or is the last one: nothing accepted is lost, nothing is numbered twice.

Under `rotate` and `ignore`: what is not delivered is counted. `scripts/faults --calls` goes through all there is.
"""

import errno

import pytest
from harness.bad_days import BrokenPromiseError
from harness.every_call import WRONGS, Wrong, every_call

from relay.spool.spool import SpaceAllowance, Spool


@pytest.mark.parametrize("wrong", WRONGS, ids=str)
def test_whichever_call_fails_nothing_accepted_is_lost_or_numbered_twice(wrong: Wrong) -> None:
    lived = every_call(wrong)
    assert lived.calls > 60, "the lives were too short to mean anything"
    assert lived.accepted > 10 * lived.calls


@pytest.mark.parametrize("wrong", WRONGS, ids=str)
def test_whichever_call_fails_ignore_counts_every_undelivered_event(wrong: Wrong) -> None:
    lived = every_call(wrong, policy="ignore")
    assert lived.calls > 150
    assert lived.accepted > 15 * lived.calls


@pytest.mark.parametrize("wrong", WRONGS[::3], ids=str)
def test_whichever_call_fails_rotate_counts_every_undelivered_event(wrong: Wrong) -> None:
    lived = every_call(wrong, policy="rotate")
    assert lived.calls > 300
    assert lived.accepted > 15 * lived.calls


def test_a_refused_block_that_comes_back_after_a_restart_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: events would be counted and delivered."""
    monkeypatch.setattr("relay.spool.store.refused_chains", lambda _: frozenset())
    with pytest.raises(BrokenPromiseError, match="are counted"):
        every_call(Wrong(code=errno.ENOSPC), policy="ignore")


def test_a_segment_that_hides_a_block_in_the_one_before_it_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: a segment got its name, and its folder could neither be synced nor the name taken back."""
    begin = Spool._begin_segment

    def keep_open(spool: Spool, number: int, octets: int, now: int, allowance: SpaceAllowance) -> None:
        file, spool._file = spool._file, None
        try:
            begin(spool, number, octets, now, allowance)
        except BaseException:
            spool._file = file
            raise

    monkeypatch.setattr(Spool, "_begin_segment", keep_open)
    with pytest.raises(
        BrokenPromiseError, match=r"damage that no fault made|events did not arrive|that could have waited"
    ):
        every_call(Wrong(code=errno.ENOSPC, calls=3), policy="ignore")
