"""Random actions on the spool and on a plain list; `scripts/faults --machine N` runs for longer."""

import pytest
from harness.bad_days import BrokenPromiseError
from harness.spool_machine import SpoolMachine
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

ALWAYS_THE_SAME = settings(max_examples=500, deadline=None, derandomize=True, database=None)


def test_a_spool_is_the_list_of_appended_blocks_after_any_actions() -> None:
    run_state_machine_as_test(SpoolMachine, settings=ALWAYS_THE_SAME)


@pytest.mark.parametrize("site", ["Spool._write sync", "create sync_folder"])
def test_a_missing_sync_is_found_out(monkeypatch: pytest.MonkeyPatch, site: str) -> None:
    """The test of the test."""
    monkeypatch.setattr(SpoolMachine, "without", site)
    once = settings(ALWAYS_THE_SAME, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(BrokenPromiseError):
        run_state_machine_as_test(SpoolMachine, settings=once)
