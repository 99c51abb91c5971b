"""The rotation run of scripts/rotations, smaller: every way of rotating, followed and with the source killed."""

from pathlib import Path

import pytest
from source.rotation_rig import WAYS, Run, Way, play

ROUNDS = 40


@pytest.mark.parametrize("kills", [0, 8], ids=["followed", "killed"])
@pytest.mark.parametrize("way", WAYS)
def test_a_rotated_log_loses_and_repeats_nothing(tmp_path: Path, way: Way, kills: int) -> None:
    outcome = play(tmp_path, Run(way=way, rounds=ROUNDS, kills=kills, seed=kills + 1, inotify=kills == 0))
    assert (outcome.lost, outcome.repeated) == (0, 0)
    assert outcome.records > ROUNDS * 10


def test_the_judge_reports_missing_and_repeated_records(tmp_path: Path) -> None:
    """The source's output is changed by hand between its end and the judgement."""
    from source import rotation_rig

    run = Run(way="shift", rounds=10, kills=0, seed=1)
    play(tmp_path, run)
    taken = tmp_path / "taken"
    batches = taken.read_bytes().splitlines(keepends=True)
    taken.write_bytes(b"".join([*batches, batches[0]]))
    twice = rotation_rig._judge(tmp_path, run, 0)
    assert twice.lost == 0
    assert twice.repeated > 0
    taken.write_bytes(b"".join(batches[1:]))
    assert rotation_rig._judge(tmp_path, run, 0).lost > 0
