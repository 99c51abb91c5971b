"""A writer and a day keeper beside each other, to be killed: `killed_days.py ARCHIVE SIZE`.

Every tenth message is a commit, and every fortieth begins a day. A message's number is the cursor's.
"""

import sys
import time
from threading import Thread

from archive.messages import DAY_US, NOON_US, limits, own

from relay.archive.days.day_keeper import DayKeeper
from relay.archive.days.retention import RetentionTerms
from relay.archive.days.uncommitted_closings import UncommittedClosings
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.system.disk import Disk

ORIGINATORS = 3
LATER = NOON_US + 36_500 * DAY_US


def main() -> None:
    archive, size = sys.argv[1], float(sys.argv[2])
    closings = UncommittedClosings()
    with ArchiveWriter(archive, "spool", closings=closings, limits=limits()) as writer:
        terms = RetentionTerms(size=size, compress_after=0.0)
        keeper = DayKeeper(Disk(), archive, terms, closings, lambda: True, clock=lambda: LATER, floor=0)
        Thread(target=keep, args=(keeper,), daemon=True).start()
        number = int(writer.cursor or b"0")
        while True:
            for number in range(number + 1, number + 11):  # noqa: B020  it goes on from the last
                writer.write(own(number, host=f"fw{number % ORIGINATORS}"), NOON_US + number // 40 * DAY_US)
            writer.commit(b"%d" % number)
            time.sleep(0.002)


def keep(keeper: DayKeeper) -> None:
    while True:
        keeper.compress(keeper.look(), until=time.monotonic() + 60)
        time.sleep(0.01)


if __name__ == "__main__":
    main()
