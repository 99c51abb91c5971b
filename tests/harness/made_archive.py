"""Makes archives of format 2 without the writer: logs and ledgers from the pure modules alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from relay.archive import ledger
from relay.archive.filing.originator import folder_name
from relay.archive.ledger import Closing, Extent, Heading, Removal
from relay.archive.log_line import escape
from relay.syslog import rfc5424

SECOND = 1_000_000


class MadeDay:
    """The log and the ledger of one originator and day, in memory until `save`."""

    def __init__(self, originator: str, stem: str, before: "MadeDay | None" = None, suffix: str = ".log") -> None:
        self.originator = originator
        self.stem = stem
        self.suffix = suffix
        self.log = bytearray()
        self.lines: list[bytes] = []
        self._count = 0
        last = before.chained if before else b""
        after = f"{before.stem}.ledger" if before else None
        self.add(Heading(originator=originator, log=f"{stem}{suffix}", after=after), last)

    @property
    def chained(self) -> bytes:
        """The line from which the next ledger continues."""
        return [line for line in self.lines if not line.startswith(b'{"removed"')][-1]

    def add(self, line: ledger.LedgerLine, previous: bytes | None = None, octets: bytes = b"") -> None:
        self.lines.append(ledger.encode(line, self.lines[-1] if previous is None else previous, [octets]))

    def extent(
        self,
        at: int | tuple[int, int],
        messages: Iterable[bytes],
        *,
        sender: str = "192.0.2.1",
        identity: str | None = None,
        via: str = "tcp://0.0.0.0:514 syslog",
        marks: Mapping[int, tuple[str, ...]] | None = None,
    ) -> None:
        """Append messages as one extent; time and identities are computed from them."""
        messages = list(messages)
        octets = b"".join(escape(message) + b"\n" for message in messages)
        times = [time for time in map(_time, messages) if time is not None]
        extent = Extent(
            at=(at, at) if isinstance(at, int) else at,
            sender=sender,
            identity=identity,
            via=via,
            off=len(self.log),
            len=len(octets),
            n=len(messages),
            time=(min(times), max(times)) if times else None,
            id=tuple(_identities(messages)),
            marks={str(line): each for line, each in (marks or {}).items()},
        )
        self.log += octets
        self._count += len(messages)
        self.add(extent, None, octets)

    def close(self, at: int, time: tuple[int, int] | None = None, outliers: tuple[tuple[int, int], ...] = ()) -> None:
        self.add(Closing(closed=at, len=len(self.log), n=self._count, time=time, outliers=outliers))

    def remove(self, at: int, cause: str = "age") -> None:
        self.add(Removal(removed=at, cause=cause))

    def save(self, archive: Path, *, log: bool = True, ledger: bool = True) -> Path:
        """Write both files; returns the originator's folder."""
        folder = archive / folder_name(self.originator.encode())
        folder.mkdir(parents=True, exist_ok=True)
        if log:
            (folder / f"{self.stem}{self.suffix}").write_bytes(self.log)
        if ledger:
            (folder / f"{self.stem}.ledger").write_bytes(b"".join(self.lines))
        return folder


def _time(message: bytes) -> int | None:
    try:
        timestamp = rfc5424.parse(message).timestamp
    except rfc5424.NotRfc5424Error:
        return None
    return None if timestamp is None else rfc5424.microseconds(timestamp)


def _identities(messages: list[bytes]) -> list[tuple[object, ...]]:
    found: list[list[object]] = []
    for identity in filter(None, map(rfc5424.identity, messages)):
        run, kind = identity.run.decode(), identity.type.decode()
        if identity.parts > 1:
            found.append([run, kind, identity.sequence, identity.sequence, identity.part, identity.parts])
        elif found and found[-1][:2] == [run, kind] and found[-1][3:] == [identity.sequence - 1]:
            found[-1][3] = identity.sequence
        else:
            found.append([run, kind, identity.sequence, identity.sequence])
    return list(map(tuple, found))
