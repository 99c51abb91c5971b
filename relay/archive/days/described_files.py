"""Which of several logs of one day is the one that its ledger describes.

Somebody may have made `2026-11-30.jsonl` from `2026-11-30.log`: relay neither reads nor removes it.
"""

import os
from contextlib import suppress
from typing import Final

from relay.archive.layout import DayFiles, plain_name
from relay.archive.ledger import Heading, LedgerError, decode

_LONGEST_HEADING: Final = 64 * 1024


def described_files(folder: str, files: DayFiles) -> DayFiles:
    """A day's files without logs of other names than the ledger's, where there are several names."""
    if not files.ledger or len(set(map(plain_name, files.logs))) <= 1:
        return files
    heading = _heading(f"{folder}/{files.ledger}")
    logs = tuple(name for name in files.logs if heading is not None and plain_name(name) == heading.log)
    return files._replace(logs=logs or files.logs)


def _heading(path: str) -> Heading | None:
    with suppress(OSError, LedgerError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            line, _, _ = os.read(descriptor, _LONGEST_HEADING).partition(b"\n")
        finally:
            os.close(descriptor)
        heading = decode(line)
        return heading if isinstance(heading, Heading) else None
    return None
