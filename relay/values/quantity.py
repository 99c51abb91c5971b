"""Durations, sizes and addresses as people write them.

Durations are seconds, sizes are bytes (powers of 1024 for KiB, MiB, …, of 1000 for KB, MB, …), addresses are
a host and a port. What cannot be read raises ValueError with one plain sentence that quotes it. Every `…_text`
writes what its reader reads back to the same value.
"""

import re
from ipaddress import ip_address
from typing import Final, NamedTuple, Self

from relay.values.text import quoted

_MILLISECONDS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES: Final = {
    "": 1,
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
_AMOUNT: Final = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,6}))? ?([A-Za-z]*)")
_MILLION: Final = 10**6

# A host name of RFC 1123 section 2.1, and the underscore that names in the field have.
_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_ADDRESS: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]{1,6})")
HIGHEST_PORT: Final = 65535


def _scaled(text: str, units: dict[str, int]) -> int | None:
    """Return the exact number of the smallest unit, or None when `text` is none or falls between two."""
    match = _AMOUNT.fullmatch(text)
    if match is None or match[3] not in units:
        return None
    fraction = int((match[2] or "").ljust(6, "0"))
    whole, rest = divmod((int(match[1]) * _MILLION + fraction) * units[match[3]], _MILLION)
    return None if rest else whole


def seconds(text: str) -> float:
    """Read "10ms", "90s", "15m", "24h", "180d": whole milliseconds, as seconds."""
    milliseconds = _scaled(text, _MILLISECONDS)
    if milliseconds is None:
        raise ValueError(
            f'{quoted(text)} is no duration; write a number and a unit, as in "10ms", "90s", "24h", "180d"'
        )
    return milliseconds / 1000


def duration_text(value: float) -> str:
    """Write the shortest text for `value` seconds."""
    milliseconds = round(value * 1000)
    unit = next(u for u in ("d", "h", "m", "s", "ms") if milliseconds % _MILLISECONDS[u] == 0)
    return f"{milliseconds // _MILLISECONDS[unit]}{unit}" if milliseconds else "0s"


def octets(text: str) -> int:
    """Read "8192", "64KiB", "16MiB", "2GiB", "100MB"."""
    size = _scaled(text, _BYTES)
    if size is None:
        raise ValueError(
            f'{quoted(text)} is no size; write a number and a unit, as in "64KiB", "16MiB", "2GiB", "100MB"'
        )
    return size


def size_text(value: int) -> str:
    """Write the shortest text for `value` bytes, in powers of 1024."""
    unit = next(u for u in ("TiB", "GiB", "MiB", "KiB", "B") if value % _BYTES[u] == 0)
    return f"{value // _BYTES[unit]}{unit}" if value else "0B"


def rounded_size(value: int) -> str:
    """Write `value` bytes for a reader: whole below 1 KB, else with one decimal, in powers of 1000."""
    unit = next((u for u in ("TB", "GB", "MB", "KB") if value >= _BYTES[u]), "B")
    return f"{value / _BYTES[unit]:.1f} {unit}" if unit != "B" else f"{value} B"


def host(text: str) -> str:
    """Return `text` when it is a host name or an IP address (IPv6 without brackets)."""
    # A name never ends in a number (RFC 1123 section 2.1): what does is an address, or a slip in one.
    if not _HOST_NAME.fullmatch(text) or text.rstrip(".").rpartition(".")[2].isdecimal():
        try:
            ip_address(text)
        except ValueError:
            raise ValueError(f"{quoted(text)} is no host name or IP address") from None
    return text


class Address(NamedTuple):
    """A host and a port; written HOST:PORT, an IPv6 address in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read HOST:PORT; port 0 is legal here and means, to a listener, any free one."""
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match[3]) > HIGHEST_PORT:
            raise ValueError(f'{quoted(text)} is no address; write HOST:PORT, as in "127.0.0.1:9999" or "[::1]:9999"')
        return cls(host(match[1] if match[2] is None else match[2]), int(match[3]))
