"""The result of a check, as monitoring plugins report it: an exit code and one line with figures. Pure.

The form is that of Nagios, Icinga, Checkmk and others (Monitoring Plugins Development Guidelines, sections 2 and 2.6):

    WARNING - 1 alarm: log1 is lost | depth=12;;;0 oldest=930s;900;3600;0
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple


class CheckState(enum.IntEnum):
    """The exit codes of a plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def rank(self) -> int:
        """A higher one is worse; something unknown is less bad than something critical."""
        return {CheckState.OK: 0, CheckState.UNKNOWN: 1, CheckState.WARNING: 2, CheckState.CRITICAL: 3}[self]


class PerformanceValue(NamedTuple):
    """A figure for a graph."""

    label: str
    value: float
    unit: str = ""
    """`s`, `B`, or nothing."""
    warning: float | None = None
    critical: float | None = None

    def __str__(self) -> str:
        limits = ("" if limit is None else f"{limit:g}" for limit in (self.warning, self.critical))
        return f"{self.label}={round(self.value, 3):.15g}{self.unit};{';'.join(limits)};0"


class CheckResult(NamedTuple):
    """A check's result."""

    state: CheckState
    text: str
    performance: Sequence[PerformanceValue] = ()

    @property
    def line(self) -> str:
        """The one line that a plugin prints."""
        text = f"{self.state.name} - {self.text}".replace("|", "/")  # "|" ends the text
        figures = " ".join(map(str, self.performance))
        return f"{text} | {figures}" if figures else text


class Fault(NamedTuple):
    """Something that makes a check's result worse."""

    state: CheckState
    text: str


def check_result(faults: Sequence[Fault], good: str, performance: Sequence[PerformanceValue] = ()) -> CheckResult:
    """The result with the worst of the faults first; `good` is its text without any."""
    if not faults:
        return CheckResult(CheckState.OK, good, performance)
    worst_first = sorted(faults, key=lambda fault: -fault.state.rank)
    return CheckResult(worst_first[0].state, "; ".join(fault.text for fault in worst_first), performance)
