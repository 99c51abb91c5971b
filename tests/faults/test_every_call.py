"""Every single call of the disk fails, or is the last one: nothing accepted is lost, nothing is numbered twice."""

import pytest
from harness.every_call import WRONGS, Wrong, every_call


@pytest.mark.parametrize("wrong", WRONGS, ids=str)
def test_whichever_call_goes_wrong_nothing_accepted_is_lost_or_numbered_twice(wrong: Wrong) -> None:
    lived = every_call(wrong)
    assert lived.calls > 60, "the lives were too short to mean anything"
    assert lived.accepted > 10 * lived.calls
