"""The watch on filing: what was not filed under the name that it has, and which identities the archive forgot.

The log names the last such sender once a minute. Not filed under its name is a message under a name that is bound to
another sender, or a new name beyond a ceiling.
"""

import logging
from typing import Final

from relay.archive.filing.filing_policy import FilingCounters
from relay.archive.writer.archive_counters import ArchiveCounters
from relay.system.rare_log import RareLog
from relay.values.alarm import NAME_DISPUTED, TOO_MANY_ORIGINATORS
from relay.values.text import escaped

_DISPUTED: Final = "a message under a name that is bound to another sender is in ~disputed: %s"
_BY_ADDRESS: Final = (
    "a new originator beyond a ceiling: the message is filed by its sender's address: %s; "
    "stop that sender, or list the names that it relays in [[receiver.originator]]"
)
_FORGOTTEN: Final = (
    "at a ceiling of memory the archive forgot which numbers it has of %s (%d runs or intervals since the start); "
    "what that sender repeats may be stored twice; stop it if it invents runs"
)


class FilingWatch:
    """Looks at the counters of the filing policy and of the archive's writer."""

    def __init__(self, counters: FilingCounters, archived: ArchiveCounters) -> None:
        self._counters = counters
        self._archived = archived
        self._logged: dict[str, int] = {}
        self._log = RareLog(logging.getLogger("relay.archive"))

    def look(self) -> dict[str, int]:
        """The number of such messages, by the alarm that reports them; logs the last one of each that has grown."""
        counters = self._counters
        counts = {NAME_DISPUTED: counters.disputed, TOO_MANY_ORIGINATORS: counters.by_address + counters.others}
        for name, message, last in (
            (NAME_DISPUTED, _DISPUTED, counters.last_dispute),
            (TOO_MANY_ORIGINATORS, _BY_ADDRESS, counters.last_by_address),
        ):
            if counts[name] > self._logged.get(name, 0):
                self._logged[name] = counts[name]
                self._log.warn(name, message, escaped(last))
        if (forgotten := self._archived.forgotten) > self._logged.get(_FORGOTTEN, 0):
            self._logged[_FORGOTTEN] = forgotten
            self._log.warn(_FORGOTTEN, _FORGOTTEN, escaped(self._archived.last_forgotten), forgotten)
        return counts
