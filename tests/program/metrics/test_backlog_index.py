"""The backlog without reading the spool: compared with a count of every block."""

import random

from relay.program.metrics.backlog_index import Backlog, BacklogIndex


def test_nothing_waits_in_a_new_index_and_behind_the_end() -> None:
    index = BacklogIndex(5)
    assert index.behind(5) == Backlog()
    index.add(6, 10, 1000, 77)
    assert index.behind(6) == index.behind(9) == Backlog()
    assert index.behind(5) == Backlog(10, 1000, 77)


def test_a_cursor_before_the_first_known_block_waits_for_everything_known() -> None:
    index = BacklogIndex(5)
    index.add(6, 10, 1000, 77)
    assert index.behind(1) == Backlog(10, 1000, 77)


def test_as_long_as_no_note_is_forgotten_the_count_is_exact() -> None:
    index, blocks = BacklogIndex(1), [(random.randint(1, 9), random.randint(10, 99)) for _ in range(200)]
    for number, (messages, octets) in enumerate(blocks, 1):
        index.add(number + 1, messages, octets, number * 1000)
    for number in range(1, 202):
        rest = blocks[number - 1 :]
        since = number * 1000 if rest else 0
        assert index.behind(number) == Backlog(sum(m for m, _ in rest), sum(o for _, o in rest), since)


def test_with_forgotten_notes_the_count_is_close_and_no_event_seems_younger_than_it_is() -> None:
    index, blocks = BacklogIndex(1, most=64), [random.randint(50, 150) for _ in range(20_000)]
    for number, messages in enumerate(blocks, 1):
        index.add(number + 1, messages, messages * 100, number * 1000)
    assert len(index._notes) <= 64
    for number in random.sample(range(1, 20_001), 200):
        found, exact = index.behind(number), sum(blocks[number - 1 :])
        assert abs(found.messages - exact) <= sum(blocks) / 32
        assert number * 1000 - 1_000_000 <= found.since <= number * 1000
    assert index.behind(1).messages == sum(blocks)


def test_after_the_proof_of_a_large_backlog_the_count_is_exact_again() -> None:
    index = BacklogIndex(1, most=64)
    for number in range(1, 1001):
        index.add(number + 1, 1, 10, number)
    index.forget(1000)
    for number in range(1001, 1030):
        index.add(number + 1, number, 10, number)
        index.forget(number)
        assert index.behind(number) == Backlog(number, 10, number)


def test_the_backlogs_of_two_spools_are_added() -> None:
    assert Backlog(1, 10, 500).plus(Backlog(2, 20, 400)) == Backlog(3, 30, 400)
    assert Backlog(1, 10, 500).plus(Backlog()) == Backlog(1, 10, 500)
