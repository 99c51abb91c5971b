"""Which of several logs of one day is the one that its ledger describes.

Somebody may have made `2026-11-30.jsonl` from `2026-11-30.log`: relay neither reads nor removes it.
"""

from contextlib import suppress

from relay.archive.layout import DayFiles, plain_name
from relay.archive.ledgers.ledger_reader import LedgerReader
from relay.errors import NoInputError, StorageError


def described_files(folder: str, files: DayFiles) -> DayFiles:
    """A day's files without logs of other names than the ledger's, where there are several names."""
    if not files.ledger or len(set(map(plain_name, files.logs))) <= 1:
        return files
    heading = None
    with suppress(NoInputError, StorageError):
        heading = LedgerReader(f"{folder}/{files.ledger}").heading()
    logs = tuple(name for name in files.logs if heading is not None and plain_name(name) == heading.log)
    return files._replace(logs=logs or files.logs)
