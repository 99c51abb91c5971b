"""The set of seen identities."""

import time
import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.archive.identity import Intervals, SequenceKey
from relay.archive.writer.charged_sender import RECEIVER, charged_sender, described, is_verified
from relay.archive.writer.seen_identities import INTERVAL_OCTETS, KEY_OCTETS, MAX_HOLDERS, PART_OCTETS, SeenIdentities

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
    seen, marks = SeenIdentities(), []
    done: set[tuple[SequenceKey, int]] = set()
    parts: dict[tuple[SequenceKey, int], set[int]] = {}
    for index, (key, number, wish, of) in enumerate(came):
        if index % 5 == 0:
            marks.append(seen.take())
        if index == cut:
            marks.append(seen.take())
            seen = SeenIdentities()
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
    seen = SeenIdentities()
    for number in (1, 2, 3, 7, 8):
        seen.add(KEY, number)
    seen.add(OTHER, 5, 2, 3)
    again = SeenIdentities()
    for marks in seen.all():
        again.restore(marks)
    assert not any(again.add(KEY, number) for number in (1, 2, 3, 7, 8))
    assert again.add(KEY, 4)
    assert not again.add(OTHER, 5, 2, 3)
    assert again.add(OTHER, 5, 1, 3)
    assert [numbers.key for marks in again.all() for numbers in marks.numbers] == [KEY]


def test_cut_anew_at_another_limit_the_parts_count_anew() -> None:
    seen = SeenIdentities()
    assert seen.add(KEY, 1, 1, 2)
    assert seen.add(KEY, 1, 1, 3)
    assert seen.add(KEY, 1, 2, 3)
    assert seen.add(KEY, 1, 3, 3)
    assert not seen.add(KEY, 1, 2, 2)


def key_of(run: int) -> SequenceKey:
    return SequenceKey(b"r", b"%d" % run, b"audit")


def test_a_sender_that_invents_identities_makes_the_archive_forget_only_its_own() -> None:
    seen = SeenIdentities(max_octets=100 * KEY_OCTETS, max_sender_octets=20 * KEY_OCTETS)
    seen.add(KEY, 7, sender="router")
    seen.take()
    for run in range(1000):
        seen.add(key_of(run), 1, sender="forger")
        seen.add(key_of(run), run * 2, 1, 2, sender="forger")
        seen.take()
    assert seen.forgotten > 900
    assert seen.octets <= 22 * KEY_OCTETS
    assert not seen.add(KEY, 7)
    assert not seen.add(key_of(999), 1)
    assert seen.add(key_of(0), 1)


def test_holes_in_the_numbers_of_one_key_have_a_ceiling_too() -> None:
    seen = SeenIdentities(max_sender_octets=KEY_OCTETS + 10 * INTERVAL_OCTETS)
    for number in range(0, 200, 2):
        seen.add(KEY, number)
    assert seen.octets <= KEY_OCTETS + 11 * INTERVAL_OCTETS
    assert seen.forgotten >= 89
    assert not seen.add(KEY, 198)
    assert seen.add(KEY, 0)


def test_above_the_ceiling_of_all_senders_those_that_have_most_are_cut_to_one_level() -> None:
    seen = SeenIdentities(max_octets=100 * KEY_OCTETS, max_sender_octets=60 * KEY_OCTETS)
    run = 0
    for sender, keys in (("small", 10), ("large", 50), ("larger", 55)):
        for _ in range(keys):
            run += 1
            seen.add(key_of(run), 1, sender=sender)
            seen.take()
    kept = {run for run in range(1, 116) if not seen.add(key_of(run), 1)}
    assert seen.octets <= 101 * KEY_OCTETS
    assert {*range(1, 11)} <= kept
    assert {60, 115} <= kept
    assert 11 not in kept


def test_very_many_senders_with_one_key_each_stay_below_the_ceiling() -> None:
    seen = SeenIdentities(max_octets=100 * (KEY_OCTETS + INTERVAL_OCTETS))
    for run in range(5000):
        seen.add(key_of(run), 1, sender=str(run))
        assert seen.octets <= 101 * (KEY_OCTETS + INTERVAL_OCTETS)
    assert not seen.add(key_of(4999), 1, sender="4999")
    assert seen.add(key_of(1), 1, sender="1")


def test_incomplete_numbers_are_forgotten_before_complete_ones() -> None:
    seen = SeenIdentities(max_sender_octets=10 * KEY_OCTETS)
    for number in range(1, 100):
        assert seen.add(KEY, number, 1, 2)
    assert not seen.add(KEY, 99, 1, 2)
    assert seen.add(KEY, 1, 1, 2)


def test_the_estimate_of_memory_is_not_too_small() -> None:
    tracemalloc.start()
    seen = SeenIdentities(max_octets=10**9, max_sender_octets=10**9)
    for run in range(2000):
        for number in range(0, 10, 2):
            seen.add(SequenceKey(b"router%d" % (run // 4), b"%016x" % run, b"audit"), 1_000_000_000 + number)
        seen.take()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < seen.octets < 2 * most


def test_what_became_known_since_the_last_commit_has_the_same_ceiling() -> None:
    seen = SeenIdentities(max_sender_octets=20 * KEY_OCTETS)
    for number in range(1000):
        seen.add(SequenceKey(b"router1", b"%d" % number, b"audit"), 1, sender="192.0.2.1")
    assert len(seen.take().numbers) <= 20


def test_unverified_senders_make_the_archive_forget_nothing_of_verified_ones() -> None:
    """A stranger with very many addresses, each of which invents runs."""
    seen = SeenIdentities(max_octets=200 * KEY_OCTETS, max_sender_octets=60 * KEY_OCTETS)
    for run in range(50):
        seen.add(key_of(run), 1, sender="=SHA256:router")
    for run in range(1_000, 6_000):
        seen.add(key_of(run), 1, sender=f"2001:db8:{run}::/64")
        assert seen.octets <= 201 * KEY_OCTETS
    assert not any(seen.add(key_of(run), 1, sender="=SHA256:router") for run in range(50))
    assert seen.forgotten > 4_900
    assert seen.last_forgotten.startswith("2001:db8:")


ROUTER, STRANGER = "=SHA256:router", "192.0.2.1"


def test_each_sender_pays_for_its_own_numbers_of_a_run() -> None:
    seen = SeenIdentities(max_sender_octets=20 * KEY_OCTETS)
    seen.add(key_of(0), 7, sender=STRANGER)
    seen.add(key_of(0), 5, 1, 2, sender=STRANGER)
    seen.add(key_of(0), 8, sender=ROUTER)
    marks = seen.take()
    for run in range(1, 1_000):
        seen.add(key_of(run), 1, sender=STRANGER)
    assert not seen.add(key_of(0), 8, sender=ROUTER)
    assert seen.add(key_of(0), 7, sender=ROUTER), "the stranger's own is forgotten"
    again = SeenIdentities()
    again.restore(marks)
    for sender in (ROUTER, STRANGER):
        assert not again.add(key_of(0), 7, sender=sender)
        assert not again.add(key_of(0), 8, sender=sender)


def test_holes_that_a_stranger_makes_in_a_routers_run_are_forgotten_with_the_strangers() -> None:
    for first, second in ((ROUTER, STRANGER), (STRANGER, ROUTER)):
        seen = SeenIdentities(max_sender_octets=KEY_OCTETS + 10 * INTERVAL_OCTETS)
        for sender in (first, second):
            for number in range(1, 2001, 2) if sender is STRANGER else range(3000, 3100):
                seen.add(KEY, number, sender=sender)
            seen.take()
        assert not any(seen.add(KEY, number, sender=ROUTER) for number in range(3000, 3100))
        assert seen.octets <= 2 * (KEY_OCTETS + 11 * INTERVAL_OCTETS)


def test_a_strangers_parts_neither_complete_nor_reset_an_event() -> None:
    seen = SeenIdentities()
    assert seen.add(KEY, 1, 1, 2, sender=ROUTER)
    assert seen.add(KEY, 1, 2, 2, sender=STRANGER)
    assert seen.add(KEY, 1, 1, 3, sender=STRANGER)
    assert not seen.add(KEY, 1, 1, 2, sender=ROUTER)
    assert seen.add(KEY, 1, 2, 2, sender=ROUTER)
    assert not seen.add(KEY, 1, sender=ROUTER)


def test_a_number_is_seen_from_any_sender_so_that_its_octets_are_compared() -> None:
    seen = SeenIdentities()
    assert seen.add(KEY, 1, sender=STRANGER)
    assert not seen.add(KEY, 1, sender=ROUTER)
    assert not seen.has_none_of(KEY, 1, 5)
    assert seen.has_none_of(KEY, 2, 5)
    restored = SeenIdentities()
    for marks in seen.all():
        restored.restore(marks)
    assert not restored.add(KEY, 1, sender="another")


def test_invented_addresses_leave_one_run_few_memories_and_verified_senders_theirs() -> None:
    seen = SeenIdentities()
    for number in range(1000):
        assert seen.add(KEY, number, sender=f"192.0.2.{number}")
    assert seen.octets <= MAX_HOLDERS * (KEY_OCTETS + INTERVAL_OCTETS)
    assert seen.add(KEY, 5000, sender=ROUTER)
    assert not seen.add(KEY, 5000, sender=ROUTER)
    assert not seen.add(KEY, 5000, sender="198.51.100.1")


@given(
    st.lists(
        st.tuples(st.sampled_from([ROUTER, STRANGER]), st.integers(1, 8), st.integers(1, 3), st.sampled_from([1, 3])),
        max_size=60,
    )
)
def test_what_a_router_repeats_is_known_whatever_a_stranger_sends(came: list[tuple[str, int, int, int]]) -> None:
    seen, sent = SeenIdentities(), set[tuple[int, int, int]]()
    for index, (sender, number, wish, of) in enumerate(came):
        part = min(wish, of)
        if index % 7 == 0:
            seen.take()
        was_new = seen.add(KEY, number, part, of, sender)
        if sender is ROUTER:
            assert not (was_new and (number, part, of) in sent)
            sent.add((number, part, of))


def test_a_charged_sender_is_what_was_verified_or_the_source() -> None:
    senders = [
        charged_sender("::ffff:192.0.2.1", None),
        charged_sender("2001:db8::1", ""),
        charged_sender("x", "SHA256:k"),
    ]
    assert senders == ["192.0.2.1", "2001:db8::/64", "=SHA256:k"]
    assert [is_verified(each) for each in (*senders, RECEIVER)] == [False, False, True, True]
    assert [described(each) for each in (senders[2], RECEIVER)] == ["SHA256:k", "the receiver itself"]


def test_incomplete_numbers_do_not_slow_down_what_is_forgotten() -> None:
    """All of them were looked at for each run that was forgotten: 5,000 made a new run cost ten times as much."""
    seen = SeenIdentities(max_sender_octets=4_000 * (KEY_OCTETS + PART_OCTETS))
    begun = time.process_time()
    for run in range(30_000):
        seen.add(key_of(run), 1, sender="192.0.2.1")
        seen.add(key_of(run), 2, 1, 2, sender="192.0.2.1")
    assert time.process_time() - begun < 2
    (share,) = seen._senders.values()
    assert {(key, number) for key, numbers in share.split.items() for number in numbers} == set(share.partial)
