"""The set of seen identities."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.archive.identity import Intervals, Seen, SequenceKey

KEY = SequenceKey(b"router1", b"5f", b"audit")
OTHER = SequenceKey(b"router2", b"5f", b"audit")


@given(st.lists(st.integers(0, 40), max_size=80))
def test_intervals_are_a_set_that_stays_sorted_and_apart(numbers: list[int]) -> None:
    intervals, model = Intervals(), set[int]()
    for number in numbers:
        assert intervals.add(number) == (number not in model)
        model.add(number)
    assert [n for first, last in intervals for n in range(first, last + 1)] == sorted(model)
    assert all((number in intervals) == (number in model) for number in range(45))
    spans = list(intervals)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(spans))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=30))
def test_whole_ranges_can_be_added(ranges: list[tuple[int, int]]) -> None:
    intervals, model = Intervals(), set[int]()
    for first, more in ranges:
        intervals.add_all(first, first + more)
        model.update(range(first, first + more + 1))
    assert [n for first, last in intervals for n in range(first, last + 1)] == sorted(model)


events = st.tuples(st.sampled_from([KEY, OTHER]), st.integers(0, 12), st.integers(1, 3), st.sampled_from([1, 3]))


@given(st.lists(events, max_size=60), st.integers(0, 60))
def test_each_part_is_new_once_also_across_a_restart(came: list[tuple[SequenceKey, int, int, int]], cut: int) -> None:
    """The restart takes the marks of every commit, as the journal does."""
    seen, marks = Seen(), []
    done: set[tuple[SequenceKey, int]] = set()
    parts: dict[tuple[SequenceKey, int], set[int]] = {}
    for index, (key, number, wish, of) in enumerate(came):
        if index % 5 == 0:
            marks.append(seen.take())
        if index == cut:
            marks.append(seen.take())
            seen = Seen()
            for mark in marks:
                seen.restore(mark)
        place = (key, number)
        part = min(wish, of)
        new = place not in done and (of == 1 or part not in parts.setdefault(place, set()))
        assert seen.add(key, number, part, of) == new
        if of == 3:
            parts.setdefault(place, set()).add(part)
        if of == 1 or parts[place] == {1, 2, 3}:
            done.add(place)


def test_everything_can_be_written_down_and_taken_up_again() -> None:
    seen = Seen()
    for number in (1, 2, 3, 7, 8):
        seen.add(KEY, number)
    seen.add(OTHER, 5, 2, 3)
    again = Seen()
    again.restore(seen.all())
    assert not any(again.add(KEY, number) for number in (1, 2, 3, 7, 8))
    assert again.add(KEY, 4)
    assert not again.add(OTHER, 5, 2, 3)
    assert again.add(OTHER, 5, 1, 3)
    assert again.all().numbers


def test_cut_anew_at_another_limit_the_parts_count_anew() -> None:
    seen = Seen()
    assert seen.add(KEY, 1, 1, 2)
    assert seen.add(KEY, 1, 1, 3)
    assert seen.add(KEY, 1, 2, 3)
    assert seen.add(KEY, 1, 3, 3)
    assert not seen.add(KEY, 1, 2, 2)


def test_beyond_the_ceiling_of_intervals_the_lowest_is_forgotten_and_counted() -> None:
    seen = Seen(max_intervals=3)
    for number in (1, 3, 5, 7):
        seen.add(KEY, number)
    assert seen.forgotten == 1
    assert seen.add(KEY, 1)
    assert not seen.add(KEY, 7)


def test_beyond_the_ceiling_of_keys_the_longest_untouched_is_forgotten() -> None:
    seen = Seen(max_keys=2)
    for run in (b"a", b"b"):
        seen.add(SequenceKey(b"r", run, b"audit"), 1)
        seen.take()
    seen.add(SequenceKey(b"r", b"a", b"audit"), 2)
    seen.take()
    seen.add(SequenceKey(b"r", b"c", b"audit"), 1)
    seen.take()
    assert seen.forgotten == 1
    assert not seen.add(SequenceKey(b"r", b"a", b"audit"), 1)
    assert seen.add(SequenceKey(b"r", b"b", b"audit"), 1)


def test_beyond_the_ceiling_of_incomplete_numbers_the_first_begun_is_forgotten() -> None:
    seen = Seen(max_partial=2)
    for number in (1, 2, 3):
        seen.add(KEY, number, 1, 2)
    assert seen.forgotten == 1
    assert seen.add(KEY, 1, 1, 2)
    assert not seen.add(KEY, 3, 1, 2)
