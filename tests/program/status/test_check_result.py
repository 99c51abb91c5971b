"""Results of checks in the form of monitoring plugins."""

import re

from relay.program.status.check_result import CheckResult, CheckState, Fault, PerformanceValue, check_result

# Monitoring Plugins Development Guidelines, section 2.6: 'label'=value[UOM];[warn];[crit];[min];[max]
FIGURE = re.compile(r"[a-z_]+=\d+(\.\d+)?(s|B)?;\d*;\d*;0")


def test_the_line_has_state_text_and_figures() -> None:
    figures = [PerformanceValue("depth", 12), PerformanceValue("oldest", 930.51234, "s", 900, 3600)]
    result = CheckResult(CheckState.WARNING, "it waits | long", figures)
    assert result.line == "WARNING - it waits / long | depth=12;;;0 oldest=930.512s;900;3600;0"
    assert all(FIGURE.fullmatch(str(figure)) for figure in figures)
    assert CheckResult(CheckState.UNKNOWN, "no rights").line == "UNKNOWN - no rights"


def test_large_figures_are_written_out() -> None:
    assert str(PerformanceValue("size", 123_456_789_012, "B")) == "size=123456789012B;;;0"


def test_the_worst_fault_decides_and_comes_first() -> None:
    faults = [Fault(CheckState.WARNING, "a"), Fault(CheckState.UNKNOWN, "b"), Fault(CheckState.CRITICAL, "c")]
    assert check_result(faults, "fine")[:2] == (CheckState.CRITICAL, "c; a; b")
    assert check_result(faults[:2], "fine")[:2] == (CheckState.WARNING, "a; b")
    assert check_result([], "fine")[:2] == (CheckState.OK, "fine")
