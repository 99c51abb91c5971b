"""A collector to run as a child: writes event 1, 2, … from where its index file says, and moves that file as it goes.

`--order write-first` moves the index after each event is written, `index-first` before. `--die N` has it die by
SIGKILL somewhere in its Nth event of this life: before it, amid its line, or between the line and the index.
It ends with status 0 after `--events N`, or stays and is silent with `--stay`.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path


def reached(index: Path | None) -> int:
    """The number in the index file; 0 when there is no file."""
    if index is None or not index.exists():
        return 0
    return int(index.read_text() or 0)


def move(index: Path | None, number: int) -> None:
    if index is not None:
        index.write_text(str(number))


def line(number: int, size: int, type_: str) -> bytes:
    text = f'change {number}\n-old \\"a\\"\n+new ' + "x" * size
    return f'events,type={type_},node=n1 number={number}i,diff="{text}" {1_700_000_000_000_000_000 + number}\n'.encode()


def die(chance: random.Random, *, likely: bool) -> None:
    if likely and chance.random() < 0.4:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--index-file", type=Path)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--order", default="write-first")
    parser.add_argument("--die", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=10)
    parser.add_argument("--type", default="admin")
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--words", default="")
    parser.add_argument("--status", type=int, default=0)
    options = parser.parse_args()
    os.write(2, options.words.encode())
    first = reached(options.index_file) + 1
    chance = random.Random(f"{options.seed} {first} {os.getpid()}")
    for number in range(first, options.events + 1):
        doomed = options.die > 0 and number - first >= options.die
        die(chance, likely=doomed)
        if options.order == "index-first":
            move(options.index_file, number)
            die(chance, likely=doomed)
        octets = line(number, options.size, options.type)
        half = chance.randrange(len(octets)) if doomed else len(octets)
        os.write(1, octets[:half])
        die(chance, likely=doomed)
        os.write(1, octets[half:])
        die(chance, likely=doomed)
        if options.order == "write-first":
            move(options.index_file, number)
        time.sleep(options.pause)
    if options.stay:
        signal.pause()
    sys.exit(options.status)


if __name__ == "__main__":
    main()
