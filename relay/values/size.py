"""Sizes in bytes, read and written as people write them: KiB, MiB, … are powers of 1024, KB, MB, … of 1000. Pure."""

from typing import Final

from relay.values.amount import parse_amount
from relay.values.text import quoted

_OF_1024: Final = {"TiB": 1024**4, "GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}
_OF_1000: Final = {"TB": 1000**4, "GB": 1000**3, "MB": 1000**2, "KB": 1000}
_BYTES: Final = {"": 1, **_OF_1024, **_OF_1000}


def parse_size(text: str) -> int:
    """Read "8192", "64KiB", "16MiB", "100MB"; ValueError quotes a text that is not a size."""
    size = parse_amount(text, _BYTES)
    if size is None:
        raise ValueError(
            f'{quoted(text)} is not a size; write a number and a unit, as in "64KiB", "16MiB", "2GiB", "100MB"'
        )
    return size


def size_text(value: int) -> str:
    """The shortest text that `parse_size` reads as these bytes, in powers of 1024."""
    if not value:
        return "0B"
    unit = next(unit for unit, size in _OF_1024.items() if value % size == 0)
    return f"{value // _OF_1024[unit]}{unit}"


def rounded_size(value: int) -> str:
    """For a reader: whole bytes below 1 KB, else one decimal, in powers of 1000."""
    unit = next((unit for unit, size in _OF_1000.items() if value >= size), None)
    return f"{value / _OF_1000[unit]:.1f} {unit}" if unit else f"{value} B"
