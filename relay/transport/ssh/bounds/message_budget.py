"""How many messages an SSH server may send: as many as the traffic justifies, and some more. Pure.

Each message costs relay some 30 microseconds of processor time, and a server that somebody has taken over can send a
hundred thousand a second. So a message has a price. What passes between the two sides earns it: the octets of data that
relay sends and receives, each channel that it opens, and time. A server that spends more than it earns abuses the
session. No honest server comes near the limit: OpenSSH answers 64 KiB with one or two messages.
"""

from typing import Final

BURST: Final = 4000.0
"""The most that can be saved, and what a session begins with."""
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
        self._left = BURST
        self._last = now
        self._sent = 0

    def earn_data(self, octets: int) -> None:
        """Octets of data arrived, within the window that relay granted."""
        self._left = min(BURST, self._left + octets / DATA_PER_UNIT)

    def spend(self, octets: int, now: float, sent: int, *, is_key_exchange: bool = False) -> bool:
        """Pay for a message of so many octets; False when the budget is exhausted.

        `sent` are the octets of data that relay has sent since the session began.
        """
        earned = (now - self._last) * EARNED_PER_SECOND + (sent - self._sent) / SENT_PER_UNIT
        self._last, self._sent = now, sent
        price = 1 + octets / _OCTETS_PER_UNIT + (KEY_EXCHANGE_PRICE if is_key_exchange else 0)
        self._left = min(BURST, self._left + earned) - price
        return self._left >= 0
