"""The log line about refused connections: the first at once, then one a minute, by cause and source."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from relay.system.minute_log import MINUTE, MinuteLog
from relay.values.text import counted

MOST_SOURCES: Final = 256
"""Whose refusals are counted apart within a minute."""
_MOST_NAMED: Final = 5
_OTHERS: Final = "other senders"
_SEPARATOR: Final = "\n"
_REMEDY: Final = "if these senders are yours, repair what their own lines name, or raise the ceiling"

_log = logging.getLogger("relay.listener.admission")


class RefusalLog:
    """Counts refused connections. For the thread of one event loop."""

    def __init__(self, describe: Callable[[str], str], minute: float = MINUTE) -> None:
        """`describe` returns the clause about a cause, such as "beyond max-connections = 10"."""
        self._describe = describe
        self._sources: set[str] = set()  # of this minute
        self._minute = MinuteLog(self._write, minute)

    def count(self, cause: str, source: str) -> None:
        """Count a refused connection of a source; "" is this machine."""
        if source not in self._sources and len(self._sources) >= MOST_SOURCES:
            source = _OTHERS
        self._sources.add(source)
        self._minute.count(f"{cause}{_SEPARATOR}{source}")

    def close(self) -> None:
        """Log what is counted and not logged yet."""
        self._minute.close()

    def _write(self, counts: Mapping[str, int]) -> None:
        self._sources.clear()
        by_cause: Counter[str] = Counter()
        by_source: Counter[str] = Counter()
        for key, count in counts.items():
            cause, _, source = key.partition(_SEPARATOR)
            by_cause[cause] += count
            by_source[source or "this machine"] += count
        causes = ", ".join(f"{count} {self._describe(cause)}" for cause, count in by_cause.most_common())
        named = by_source.most_common(_MOST_NAMED)
        sources = ", ".join(f"{count} from {source}" for source, count in named)
        if further := len(by_source) - len(named):
            sources += f", and others from {counted(further, 'further source')}"
        _log.warning("%s refused: %s; %s; %s", counted(sum(counts.values()), "connection"), causes, sources, _REMEDY)
