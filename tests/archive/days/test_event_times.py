"""A day's events as a few spans of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.archive.days.event_times import FAR, MAX_OUTLIERS, MAX_SPANS, EventTimes, Span
from relay.archive.ledger import Extent

HOUR = 3_600_000_000
TODAY = 1_796_000_000_000_000
IN_1993 = 725_846_400_000_000


def _closing(*spans: tuple[int, int, int]) -> tuple[Span | None, tuple[Span, ...]]:
    times = EventTimes()
    for span in spans:
        times.add(*span)
    return times.closing()


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([], (None, ()), id="a day without events"),
        pytest.param([(TODAY, TODAY, 1)], ((TODAY, TODAY), ()), id="one event"),
        pytest.param(
            [(TODAY, TODAY + 5, 9), (TODAY + HOUR, TODAY + 2 * HOUR, 3)], ((TODAY, TODAY + 2 * HOUR), ()), id="near"
        ),
        pytest.param(
            [(IN_1993, IN_1993 + 60, 4), (TODAY, TODAY + HOUR, 500)],
            ((TODAY, TODAY + HOUR), ((IN_1993, IN_1993 + 60),)),
            id="a device without a clock says 1993",
        ),
        pytest.param(
            [(TODAY, TODAY, 1), (0, 0, 2), (IN_1993, IN_1993, 900)],
            ((IN_1993, IN_1993), ((0, 0), (TODAY, TODAY))),
            id="the clock was wrong all day",
        ),
        pytest.param([(TODAY, TODAY, 1), (TODAY + FAR, TODAY + FAR, 1)], ((TODAY, TODAY + FAR), ()), id="a day apart"),
        pytest.param(
            [(TODAY, TODAY, 2), (TODAY + FAR + 1, TODAY + FAR + 1, 1)],
            ((TODAY, TODAY), ((TODAY + FAR + 1, TODAY + FAR + 1),)),
            id="more than a day apart",
        ),
        pytest.param(
            [(TODAY - 40 * FAR, TODAY - 40 * FAR, 1), (TODAY, TODAY, 1), (TODAY - 41 * FAR, TODAY, 1)],
            ((TODAY - 41 * FAR, TODAY), ()),
            id="a backlog of weeks joins what lay apart",
        ),
    ],
)
def test_far_times_lie_apart(spans: list[tuple[int, int, int]], expected: object) -> None:
    assert _closing(*spans) == expected
    assert _closing(*reversed(spans)) == expected


def test_an_extent_without_a_usable_time_counts_with_its_receipt() -> None:
    times = EventTimes()
    extent = Extent(at=(TODAY, TODAY + 1), sender="192.0.2.1", identity=None, via="tcp", off=0, len=5, n=2)
    times.add_extent(extent)
    assert times.closing() == ((TODAY, TODAY + 1), ())
    times.add_extent(replace(extent, time=(IN_1993, IN_1993), n=7, marks={"0": ("no-time",)}))
    assert times.closing() == ((IN_1993, IN_1993), ((TODAY, TODAY + 1),))


@given(st.lists(st.tuples(st.integers(-(2**55), 2**55), st.integers(0, 3 * FAR), st.integers(1, 9)), max_size=200))
def test_every_event_is_covered_by_few_spans(drawn: list[tuple[int, int, int]]) -> None:
    times = EventTimes()
    for begin, length, messages in drawn:
        times.add(begin, begin + length, messages)
    assert len(times._clusters) <= MAX_SPANS
    main, outliers = times.closing()
    spans = [span for span in (main, *outliers) if span is not None]
    assert len(outliers) <= MAX_OUTLIERS
    assert all(any(low <= begin and begin + length <= high for low, high in spans) for begin, length, _ in drawn)
    assert all(a[1] + FAR < b[0] for a, b in zip(sorted(spans), sorted(spans)[1:], strict=False))
