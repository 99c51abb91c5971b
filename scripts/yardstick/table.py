"""Figures as Markdown for a page."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

Run = TypeVar("Run")
NONE: Final = "—"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; all columns but the first two have figures, aligned to the right."""
    rule = ["---" if column < 2 else "---:" for column in range(len(header))]  # noqa: PLR2004  name and description
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def median(runs: Sequence[Run], figure: Callable[[Run], float], digits: int = 0) -> str:
    """Return the median of the runs' figures."""
    return f"{statistics.median(map(figure, runs)):,.{digits}f}"


def median_and_spread(runs: Sequence[Run], figure: Callable[[Run], float], digits: int = 0) -> str:
    """Return the median of the runs' figures, with the least and the greatest if there are several."""
    figures = [figure(run) for run in runs]
    middle = median(runs, figure, digits)
    if len(figures) == 1:
        return middle
    return f"{middle} ({min(figures):,.{digits}f} to {max(figures):,.{digits}f})"
