"""Histograms of durations."""

from relay.values.histogram import Histogram


def test_a_duration_counts_for_its_bound_and_all_larger_ones() -> None:
    histogram = Histogram((1, 5))
    for seconds in (0.5, 1, 3, 9):
        histogram.add(seconds)
    assert histogram.cumulative() == [(1, 2), (5, 3), (float("inf"), 4)]
    assert (histogram.count, histogram.sum) == (4, 13.5)


def test_a_duration_can_count_several_times_and_a_negative_one_is_zero() -> None:
    histogram = Histogram((1,))
    histogram.add(2, 10)
    histogram.add(-5)
    assert histogram.cumulative() == [(1, 1), (float("inf"), 11)]
    assert histogram.sum == 20
