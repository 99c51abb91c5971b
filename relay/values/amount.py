"""An amount: a number and a unit, as in "1.5MiB" or "90s", read exactly. Pure."""

import re
from collections.abc import Mapping
from typing import Final

_AMOUNT: Final = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,6}))? ?([A-Za-z]*)")
_MILLION: Final = 10**6


def parse_amount(text: str, units: Mapping[str, int]) -> int | None:
    """The number of smallest units; None when the text is not an amount, or not a whole number of smallest units."""
    match = _AMOUNT.fullmatch(text)
    if match is None or match[3] not in units:
        return None
    millionths = int(match[1]) * _MILLION + int((match[2] or "").ljust(6, "0"))
    whole, rest = divmod(millionths * units[match[3]], _MILLION)
    return None if rest else whole
