"""The watch on names that are bound to other senders: the log has the last such message, at most once a minute."""

import logging
from typing import Final

from relay.archive.filing.filing_policy import FilingCounters
from relay.system.rare_log import RareLog
from relay.values.text import escaped

_KIND: Final = "disputed"


class DisputeWatch:
    """Looks at the counters of the filing policy."""

    def __init__(self, counters: FilingCounters) -> None:
        self._counters = counters
        self._logged = 0
        self._log = RareLog(logging.getLogger("relay.archive"))

    def look(self) -> int:
        """The number of disputed messages; logs the last one when it has grown."""
        disputed = self._counters.disputed
        if disputed > self._logged:
            self._logged = disputed
            what = "a message under a name that is bound to another sender is in ~disputed: %s"
            self._log.warn(_KIND, what, escaped(self._counters.last_dispute))
        return disputed
