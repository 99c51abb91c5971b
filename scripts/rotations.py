"""The table of rotations: every way of rotating a log under load, with the source running on or killed meanwhile.

Run by ./scripts/rotations. tests/source/rotation_rig.py describes the kinds of rotation and what is counted. The last
line is the verdict. The exit code is 0 when no record was lost or duplicated, else 1 (the folder is kept then), and 130
when interrupted.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from source.rotation_rig import WAYS, Outcome, Run, play

ROUNDS: Final = 1000
QUICK: Final = 100
ROUNDS_A_KILL: Final = 10
INTERRUPTED: Final = 130
HEAD: Final = """\
| the log is rotated by | rotations | inodes given again | records | source killed | lost | repeated | written between \
copy and cut, lost |
|---|--:|--:|--:|--:|--:|--:|--:|"""


def row(way: str, outcome: Outcome) -> str:
    """Write one line of the table."""
    window = f"{outcome.in_window}, {outcome.lost_in_window}" if outcome.in_window else "-"
    numbers = (
        outcome.rotations,
        outcome.reused,
        outcome.records,
        outcome.kills,
        outcome.lost,
        outcome.repeated,
        window,
    )
    return f"| {way} | {' | '.join(f'{n:,}' if isinstance(n, int) else n for n in numbers)} |"


def main() -> int:
    """Run all of it and print the table."""
    parser = argparse.ArgumentParser(description="Rotate a log in every way while the source follows it.")
    parser.add_argument("folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rotations of each kind (default {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} rotations of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of what is left to chance (default 1)")
    parser.add_argument("--polling", action="store_true", help="without inotify")
    chosen = parser.parse_args()
    rounds = QUICK if chosen.quick else chosen.rounds
    chosen.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=chosen.folder))
    print(HEAD, flush=True)
    broken = 0
    for way in WAYS:
        for kills in (0, rounds // ROUNDS_A_KILL):
            place = folder / f"{way} {kills}"
            place.mkdir()
            run = Run(way=way, rounds=rounds, kills=kills, seed=chosen.seed, inotify=not chosen.polling)
            outcome = play(place, run)
            print(row(way, outcome), flush=True)
            broken += outcome.lost + outcome.repeated
    if broken:
        print(f"BROKEN: {broken} records were lost or duplicated (seed {chosen.seed}; see {folder})")
        return 1
    shutil.rmtree(folder)
    print("kept: no record was lost and none was duplicated")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
