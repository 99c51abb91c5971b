"""Messages for an archive, and what stands in it."""

import re
from pathlib import Path

from relay.archive.read import ArchiveDamage, StoredMessage, read

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
    found = {}
    for path in sorted(archive.glob("*/*.log")):
        items = list(read(str(path)))
        assert not any(isinstance(item, ArchiveDamage) for item in items), (path, items)
        found[str(path.relative_to(archive))] = [item.message for item in items if isinstance(item, StoredMessage)]
    return found


def all_stored(archive: Path) -> list[bytes]:
    return [message for messages in stored(archive).values() for message in messages]


def number_of(message: bytes) -> int:
    found = re.search(rb"(\d+)$", message)
    assert found is not None
    return int(found[1])
