"""A child process that writes an archive until it is killed: FOLDER TOTAL.

Message N (from 1) is the spool's N-th, and a commit's cursor is the number of its last. For each message it writes one
octet to stdout, so that its killer can choose the moment.
"""

import os
import random
import sys

from archive.messages import NOON_US, foreign, limits, own

from relay.archive.writer.archive_writer import ArchiveWriter


def message(number: int) -> bytes:
    """The spool's message of that number: every third without identity, from seven originators."""
    host = f"router{number % 7}"
    return foreign(number, host=host) if number % 3 == 0 else own(number, host=host)


def main() -> None:
    total = int(sys.argv[2])
    rng = random.Random()
    writer = ArchiveWriter(sys.argv[1], "spool", limits=limits(max_pending=2000, max_open=2))
    first = int(writer.cursor or b"0") + 1
    for number in range(first, total + 1):
        writer.write(message(number), NOON_US)
        os.write(sys.stdout.fileno(), b".")
        if number == total or rng.random() < 0.05:
            writer.commit(b"%d" % number)
    writer.close()


if __name__ == "__main__":
    main()
