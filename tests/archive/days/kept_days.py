"""A day keeper as a program of its own, so that it can be killed: `kept_days.py ARCHIVE NOW AGE SIZE COMPRESS_AFTER`.

It looks and compresses once. The numbers are the time in microseconds, seconds, octets and seconds, or "-".
"""

import math
import sys
import time

from relay.archive.days.day_keeper import DayKeeper
from relay.archive.days.retention import RetentionTerms
from relay.archive.days.uncommitted_closings import UncommittedClosings
from relay.system.disk import Disk


def main() -> None:
    archive, now, age, size, compress_after = sys.argv[1:6]
    terms = RetentionTerms(
        age=math.inf if age == "-" else float(age),
        size=math.inf if size == "-" else int(size),
        compress_after=math.inf if compress_after == "-" else float(compress_after),
    )
    floor = int(sys.argv[6]) if len(sys.argv) > 6 else 0
    keeper = DayKeeper(Disk(), archive, terms, UncommittedClosings(), lambda: True, clock=lambda: int(now), floor=floor)
    keeper.compress(keeper.look(), until=time.monotonic() + 60)
    keeper.compressor.end()
    sys.stdout.write(f"{keeper.counters} {keeper.fault}\n")


if __name__ == "__main__":
    main()
