"""An archive with closed days, written with the pure core of the format alone."""

from pathlib import Path

from relay.archive import ledger
from relay.archive.layout import begin_of, stem_of

DAY = 86_400_000_000
SECOND = 1_000_000


class ClosedArchive:
    """`add` writes one originator's day, chained to the day that was added before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: dict[str, tuple[str, bytes]] = {}
        (folder / ".relay").mkdir(parents=True, exist_ok=True)

    def add(
        self,
        originator: str,
        day: str,
        log: bytes = b"<13>a message\n",
        *,
        part: int = 1,
        is_closed: bool = True,
        closed: int | None = None,
    ) -> Path:
        """Write log and ledger; the path of the log. By default it was closed when the day ended."""
        stem = stem_of(day, part)
        folder = self.folder / originator
        folder.mkdir(parents=True, exist_ok=True)
        after, previous = self._last.get(originator, (None, b""))
        begin = begin_of(day)
        messages = log.count(b"\n")
        extent = ledger.Extent(
            at=(begin, begin), sender="192.0.2.1", identity=None, via="udp", off=0, len=len(log), n=messages
        )
        heading = ledger.Heading(originator=originator, log=f"{stem}.log", after=after)
        lines = [ledger.encode(heading, previous)]
        lines.append(ledger.encode(extent, lines[-1], [log]))
        if is_closed:
            closing = ledger.Closing(closed=begin + DAY if closed is None else closed, len=len(log), n=messages)
            lines.append(ledger.encode(closing, lines[-1]))
        (folder / f"{stem}.ledger").write_bytes(b"".join(lines))
        (folder / f"{stem}.log").write_bytes(log)
        self._last[originator] = (f"{stem}.ledger", lines[-1])
        return folder / f"{stem}.log"

    def names(self, originator: str) -> list[str]:
        """What lies in an originator's folder."""
        return sorted(path.name for path in (self.folder / originator).iterdir())

    def last_line(self, originator: str, stem: str) -> ledger.LedgerLine:
        """The last line of a ledger."""
        return ledger.decode((self.folder / originator / f"{stem}.ledger").read_bytes().splitlines()[-1])
