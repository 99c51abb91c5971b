"""Messages for an archive, and what is in it."""

import re
from pathlib import Path

from relay.archive.log_line import unescape
from relay.archive.writer.archive_writer import WriterLimits
from relay.archive.writer.open_days import DayLimits

DAY_US = 86_400_000_000
NOON_US = 1_709_726_400_000_000  # 2024-03-06 12:00 UTC


def own(
    number: int, *, host: str = "router1", run: str = "5f", kind: str = "audit", part: str = "", text: str = ""
) -> bytes:
    """A message with relay's identity."""
    part = f' relayPart="{part}"' if part else ""
    return (
        f"<109>1 2024-03-06T16:34:22.347Z {host} auditd - LOGIN "
        f'[128T relayRun="{run}" relaySeq="{number}"{part} type="{kind}" router="r"] {text or number}'
    ).encode()


def foreign(number: int, *, host: str = "switch1") -> bytes:
    """A message without one."""
    return f"<13>1 2024-03-06T16:34:22Z {host} app - - - number {number}".encode()


def stored(archive: Path) -> dict[str, list[bytes]]:
    """Every message, by the file's path below the archive; damage fails."""
    return {str(path.relative_to(archive)): messages_in(path) for path in sorted(archive.rglob("*.log"))}


def messages_in(path: Path) -> list[bytes]:
    """The messages of one log; damage fails."""
    octets = path.read_bytes()
    assert octets.endswith(b"\n") or not octets, path
    return list(map(unescape, octets.split(b"\n")[:-1]))


def limits(*, max_open: int = 0, max_days: int = 16_384, **others: int) -> WriterLimits:
    """Ceilings of a writer that are small enough for a test."""
    return WriterLimits(days=DayLimits(max_open=max_open, max_days=max_days, closing_grace=0), **others)


def all_stored(archive: Path) -> list[bytes]:
    return [message for messages in stored(archive).values() for message in messages]


def number_of(message: bytes) -> int:
    found = re.search(rb"(\d+)$", message)
    assert found is not None
    return int(found[1])
