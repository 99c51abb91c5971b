"""A pair of values, one for the retained spool and one for the transient spool.

It is a tuple: iterate over it, zip it, or index it with `RETAINED` and `TRANSIENT`.
"""

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

RETAINED: Final = 0
TRANSIENT: Final = 1

_Value = TypeVar("_Value")
_Result = TypeVar("_Result")


class BothSpools(NamedTuple, Generic[_Value]):
    """One value for each spool."""

    retained: _Value
    transient: _Value

    def map(self, function: Callable[[_Value], _Result]) -> "BothSpools[_Result]":
        """The function's result for each spool."""
        return BothSpools(function(self.retained), function(self.transient))

    def exchange(self, index: int, value: _Value) -> "BothSpools[_Value]":
        """The pair with another value for one spool."""
        return BothSpools(self.retained, value) if index == TRANSIENT else BothSpools(value, self.transient)


def later(one: BothSpools[tuple[int, int]], other: BothSpools[tuple[int, int]]) -> BothSpools[tuple[int, int]]:
    """The later point of each spool."""
    return BothSpools(max(one.retained, other.retained), max(one.transient, other.transient))
