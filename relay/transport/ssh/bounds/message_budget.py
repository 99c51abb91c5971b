"""How many messages an SSH server may send: as many as the traffic justifies, and some more. Pure.

Each message costs relay some 30 microseconds of processor time, and a server that somebody has taken over can send a
hundred thousand a second. So a message has a price. What passes between the two sides earns it: the octets of data that
relay sends and receives, each channel that it opens, and time. A server that spends more than it earns abuses the
session. No honest server comes near the limit: OpenSSH answers 64 KiB with one or two messages.
"""

from typing import Final

BURST: Final = 4000.0
"""The most that time can save, and what a session begins with."""
TRAFFIC_BURST: Final = 200_000.0
"""The most that traffic can save: answers come after all that windows and the collector's kernel hold (10 MB)."""
EARNED_PER_SECOND: Final = 200.0
SENT_PER_UNIT: Final = 64
"""Octets of data sent that earn the price of one message; a RELP or auditd message has more, and gets one answer."""
CHANNEL_WORTH: Final = 8 * SENT_PER_UNIT
"""What opening a channel earns, in octets; the server opens, widens, ends and closes it."""
DATA_PER_UNIT: Final = 256
"""Octets of data received that earn as much."""
KEY_EXCHANGE_PRICE: Final = 1000.0
"""A Diffie-Hellman exchange can take 0.3 s."""
_OCTETS_PER_UNIT: Final = 1024


class MessageBudget:
    """What one server may still spend. Times are seconds of a monotonic clock."""

    def __init__(self, now: float) -> None:
        self._saved = BURST
        self._of_traffic = 0.0
        self._last = now
        self._sent = 0

    def earn_data(self, octets: int) -> None:
        """Octets of data arrived, within the window that relay granted."""
        self._of_traffic = min(TRAFFIC_BURST, self._of_traffic + octets / DATA_PER_UNIT)

    def spend(self, octets: int, now: float, sent: int, *, is_key_exchange: bool = False) -> bool:
        """Pay for a message of so many octets; False when the budget is exhausted.

        `sent` are the octets of data that relay has sent since the session began.
        """
        self._saved = min(BURST, self._saved + (now - self._last) * EARNED_PER_SECOND)
        self._of_traffic = min(TRAFFIC_BURST, self._of_traffic + (sent - self._sent) / SENT_PER_UNIT)
        self._last, self._sent = now, sent
        price = 1 + octets / _OCTETS_PER_UNIT + (KEY_EXCHANGE_PRICE if is_key_exchange else 0)
        by_traffic = min(price, self._of_traffic)
        self._of_traffic -= by_traffic
        self._saved -= price - by_traffic
        return self._saved >= 0
