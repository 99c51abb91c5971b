"""A child process that writes an audit log and rotates it as auditd does: PATH RECORDS ROTATE_AT KEEP.

Each record is written by one write, as auditd does with `flush = data`; records are numbered from 1.
"""

import sys
from pathlib import Path

from source.log_writing import record, rotate


def main() -> None:
    path, total, rotate_at, keep = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    log = path.open("ab", buffering=0)
    size = 0
    for serial in range(1, total + 1):
        line = record(serial)
        if size + len(line) > rotate_at:
            log.close()
            rotate(path, keep)
            log, size = path.open("ab", buffering=0), 0
        log.write(line)
        size += len(line)
    log.close()


if __name__ == "__main__":
    main()
