"""What messages prove of their completeness: gaps, openings and heartbeats as `own_events` writes them."""

from collections.abc import Iterable, Mapping

import pytest
from archive.messages import NOON_US, foreign, own
from archive.relay_events import AUTHOR, NEXT, RUN, THIRD, gap, heartbeat, lost, numbered, opening, stamped
from hypothesis import given
from hypothesis import strategies as st

from relay.archive.completeness.assessment import (
    MAX_RANGES,
    RETAINED,
    AssessmentScope,
    Completeness,
    CompletenessFinding,
)
from relay.archive.completeness.number_trail import DUPLICATE, MALFORMED, NumberTrail
from relay.archive.completeness.relay_reports import RunAndType
from relay.archive.completeness.spans import Span
from relay.events import own_events
from relay.values.event import EventType

EVERYTHING = AssessmentScope()
ROUTER = "SHA256:router"


def judged(
    messages: Iterable[bytes],
    scope: AssessmentScope = EVERYTHING,
    known: Mapping[RunAndType, list[Span]] | None = None,
) -> Completeness:
    """Of messages from one verified sender."""
    trail = NumberTrail()
    for message in messages:
        assert trail.add(message, ROUTER) == ""
    return trail.assess(known or {}, scope)


def finding(kind: str, *spans: Span, run: bytes = RUN, of: str = "audit") -> CompletenessFinding:
    return CompletenessFinding(
        kind, run.hex().encode(), of.encode(), sum(last - first + 1 for first, last in spans), spans
    )


# --- Numbers ---


def test_what_came_in_any_order_and_in_parts_is_whole() -> None:
    parts = [own(4, run=RUN.hex(), part=f"{part}/2") for part in (2, 1)]
    found = judged([opening(), *numbered(2, 1, 3), *parts, *numbered(5), foreign(7), b"\xff"])
    assert found.faults == found.explained == found.waiting == ()
    assert (found.messages, found.numbered, found.runs) == (9, 7, 1)


def test_ranges_of_a_ledger_count_as_their_numbers_do() -> None:
    trail = NumberTrail()
    run = RUN.hex().encode()
    assert [trail.add_range(run, b"audit", *span, ROUTER) for span in ((1, 5), (8, 9), (4, 8), (20, 20))] == [
        0,
        0,
        3,
        0,
    ]
    assert [trail.add_part(RunAndType(run, b"audit"), 12, part, 3, ROUTER) for part in (1, 2, 2)] == [0, 0, 1]
    trail.add_range(run, b"audit", 11, 13, ROUTER)
    trail.add_unnumbered(15)
    found = trail.assess({}, EVERYTHING)
    assert found.faults == (finding("missing", (10, 10), (14, 19)),)
    assert (found.messages, found.numbered, found.waiting) == (15, 19, ())


def test_numbers_that_retention_removed_are_not_missed() -> None:
    trail = NumberTrail()
    key = RunAndType(RUN.hex().encode(), b"audit")
    trail.add_removed(key, 7, ROUTER)
    assert trail.add_range(*key, 9, 9, ROUTER) == 0
    assert trail.assess({}, EVERYTHING).faults == (finding("missing", (8, 8)),)


def test_holes_are_named_from_the_first_number_on() -> None:
    found = judged(numbered(2, 3, 7, 9))
    assert found.faults == (finding("missing", (1, 1), (4, 6), (8, 8)),)
    assert found.missing == 5


def test_each_run_and_type_is_counted_by_itself() -> None:
    messages = [*numbered(1, 2), *numbered(2, run=NEXT), *numbered(1, 3, kind="admin")]
    assert judged(messages).faults == (
        finding("missing", (1, 1), run=NEXT),
        finding("missing", (2, 2), of="admin"),
    )


def test_an_event_of_which_a_part_is_missing_is_unfinished() -> None:
    parts = [own(2, run=RUN.hex(), part=f"{part}/3") for part in (1, 3)]
    assert judged([*numbered(1, 3), *parts]).faults == (finding("unfinished", (2, 2)),)


def test_parts_of_another_cut_say_nothing_about_each_other() -> None:
    parts = [own(1, run=RUN.hex(), part=part) for part in ("1/3", "2/3", "1/2", "2/2")]
    found = judged(parts)
    assert found.faults == found.waiting == ()


def test_the_last_event_may_still_be_coming_until_a_heartbeat_tells_of_it() -> None:
    messages = [*numbered(1), own(3, run=RUN.hex(), part="1/2")]
    found = judged(messages)
    assert found.faults == (finding("missing", (2, 2)),)
    assert found.waiting == (finding("unfinished", (3, 3)),)
    found = judged([*messages, heartbeat(1, audit=3)])
    assert found.faults == (finding("unfinished", (3, 3)), finding("missing", (2, 2)))
    assert found.waiting == ()


def test_a_number_or_part_that_stands_twice_is_a_double() -> None:
    trail = NumberTrail()
    again = [own(2, run=RUN.hex(), part="1/2"), *numbered(1)]
    assert [trail.add(message) for message in again] == ["", ""]
    assert [trail.add(message) for message in again] == [DUPLICATE, DUPLICATE]


def test_a_numbered_message_that_lost_its_form_is_malformed() -> None:
    good = own(1, run=RUN.hex())
    assert NumberTrail().add(good.replace(b'router="r"', b'router="r')) == MALFORMED
    assert NumberTrail().add(good.replace(b'"] ', b'"]')) == MALFORMED


def test_messages_of_type_log_are_judged_only_when_that_is_asked_for() -> None:
    messages = [*numbered(3, kind="log"), heartbeat(1, log=500)]
    assert judged(messages).faults == ()
    assert judged(messages, AssessmentScope(types=frozenset({b"log"}))).missing == 499


def test_only_the_types_that_are_asked_for_are_judged() -> None:
    messages = [*numbered(2), *numbered(1, kind="admin")]
    assert judged(messages, AssessmentScope(types=frozenset({b"admin"}))).faults == ()


# --- Heartbeats and openings ---


def test_a_heartbeat_proves_what_must_have_been_before_it() -> None:
    found = judged([opening(), *numbered(1, 2), heartbeat(2, relay=1, audit=5)])
    assert found.faults == (finding("missing", (3, 5)),)


def test_a_heartbeat_proves_a_type_of_which_nothing_came() -> None:
    assert judged([opening(), heartbeat(2, relay=1, alarm=2)]).faults == (finding("missing", (1, 2), of="alarm"),)


def test_the_opening_of_the_next_run_proves_the_end_of_the_one_before() -> None:
    messages = [opening(), *numbered(1, 2), opening(run=NEXT, previous=RUN, relay=1, audit=4)]
    assert judged(messages).faults == (finding("missing", (3, 4)),)


def test_the_newest_heartbeats_time_and_backlog_are_told() -> None:
    found = judged([heartbeat(1, minute=1), heartbeat(2, minute=2, waiting={"far": 3, "a b": 0}, relay=1)])
    assert (found.last_report, found.backlog) == (NOON_US + 120_000_000, {"far": 3, "a b": 0})


def test_what_does_not_persist_may_come_after_the_heartbeat_while_something_waits() -> None:
    messages = [*numbered(1, kind="traffic"), heartbeat(1, waiting={"far": 3, "other": 0}, traffic=4, audit=1)]
    found = judged(messages)
    assert found.faults == (finding("missing", (1, 1)),)  # what persists comes in order
    assert found.waiting == (finding("waiting", (2, 4), of="traffic"),)
    assert judged(messages, AssessmentScope(servers=frozenset({"other"}))).waiting == ()
    assert judged([*messages, heartbeat(2, relay=1)]).waiting == ()


def test_nothing_waits_once_its_type_has_come_of_a_later_run() -> None:
    messages = [heartbeat(1, traffic=4), opening(run=NEXT, previous=RUN), heartbeat(2, run=NEXT, waiting={"far": 3})]
    assert judged(messages).waiting == (finding("waiting", (1, 4), of="traffic"),)
    later = numbered(1, run=NEXT, kind="traffic")
    assert judged([*messages, *later]).faults == (finding("missing", (1, 4), of="traffic"),)


def test_what_was_before_the_first_run_is_told_and_is_no_fault() -> None:
    found = judged([opening(run=NEXT, previous=RUN, audit=7)])
    assert (found.before, found.faults) == ((RUN.hex().encode(),), ())


def test_a_run_between_two_others_of_which_there_is_nothing_is_missing() -> None:
    messages = [opening(), *numbered(1), opening(run=THIRD, previous=NEXT, relay=1, audit=7)]
    found = judged(messages)
    assert found.before == ()
    assert found.faults == (
        CompletenessFinding("run missing", NEXT.hex().encode(), b"", 0),
        finding("missing", (1, 7), run=NEXT),
        finding("missing", (1, 1), run=NEXT, of="relay"),
    )


def test_a_run_of_which_there_is_nothing_is_not_missing_when_gaps_account_for_all_of_it() -> None:
    """So it is where a server comes back under another name, and begins with what comes from then on."""
    whole, part, relays = lost(1, 7), lost(1, 6), lost(1, 2, kind=EventType.RELAY)
    messages = [opening(run=NEXT), opening(run=THIRD, previous=RUN, relay=2, audit=7)]
    found = judged([*messages, gap(2, whole, relays, server="far", run=THIRD)])
    assert (found.faults, found.before) == ((), ())
    assert found.explained == (finding("reported lost", (1, 7)), finding("reported lost", (1, 2), of="relay"))
    found = judged([*messages, gap(2, part, relays, server="far", run=THIRD)])
    assert [(fault.kind, fault.numbers) for fault in found.faults] == [("run missing", 0), ("missing", 1)]


def test_originators_that_share_a_folder_say_nothing_about_each_others_runs() -> None:
    other = [
        message.replace(b" router1 ", b" router2 ")
        for message in (opening(run=THIRD, previous=NEXT), heartbeat(2, run=THIRD, waiting={"far": 3}))
    ]
    found = judged([opening(), *other, heartbeat(2, traffic=1)])
    assert found.before == (NEXT.hex().encode(),)
    assert found.faults == (finding("missing", (1, 1), of="traffic"),)


# --- Gaps ---


def test_what_a_gap_accounts_for_is_told_and_is_no_fault() -> None:
    found = judged([*numbered(1, 4), gap(1, lost(2, 3), server="far"), heartbeat(2, relay=1, audit=4)])
    assert found.faults == ()
    assert found.explained == (finding("reported lost", (2, 3)),)
    assert (found.gaps.reported, found.gaps.events, found.gaps.explained) == (1, 2, 2)
    assert found.gaps.causes == (("far: deleted", 2),)


def test_a_gap_accounts_for_the_end_of_a_run_too() -> None:
    messages = [*numbered(1), gap(1, lost(2, 9)), heartbeat(2, relay=1, audit=9)]
    assert judged(messages).faults == ()


def test_a_range_that_grew_accounts_for_no_more_than_it_counts() -> None:
    there = [number for number in range(1, 21) if number not in {5, 6, 15}]
    assert judged([*numbered(*there), gap(1, lost(5, 15, 3))]).faults == ()
    found = judged([*numbered(*there), gap(1, lost(5, 15, 2))])
    assert found.faults == (finding("missing", (5, 6), (15, 15)),)


def test_a_gap_that_is_told_twice_counts_once() -> None:
    messages = [*numbered(4), gap(1, lost(1, 3, 2)), gap(2, lost(1, 3, 2))]
    found = judged(messages)
    assert (found.gaps.reported, found.gaps.events, found.missing) == (1, 2, 3)
    assert judged([*messages, gap(3, lost(1, 3, 1), told=2)]).missing == 0


def test_two_servers_gaps_do_not_add_up() -> None:
    messages = [*numbered(5), gap(1, lost(1, 4, 2), server="a"), gap(2, lost(1, 4, 2), server="b")]
    assert judged(messages).missing == 4
    assert judged([*messages, gap(3, lost(1, 4, 2))]).missing == 0


def test_only_the_named_servers_gaps_account_beside_those_of_all() -> None:
    messages = [*numbered(5), gap(1, lost(1, 2), server="a"), gap(2, lost(3, 4))]
    assert judged(messages, AssessmentScope(servers=frozenset({"a"}))).missing == 0
    assert judged(messages, AssessmentScope(servers=frozenset({"b"}))).faults == (finding("missing", (1, 2)),)


def test_gaps_without_numbers_or_counts_are_told() -> None:
    unread = own_events.UnreadLog("audit", ("/var/log/audit/audit.log.1",), "rotated away", None, (5, 6))
    found = judged(
        [
            stamped(own_events.kernel_gap(AUTHOR, NOON_US, 7), 1),
            stamped(own_events.unread_gap(AUTHOR, NOON_US, unread), 2),
            gap(3, unnamed=4),
        ]
    )
    assert found.gaps[:4] == (3, 11, 1, 11)
    assert found.gaps.causes == (("the kernel dropped audit records", 7), ("rotated away", 0), ("deleted", 4))


# --- The index, and a later beginning ---


def test_what_the_index_knows_and_is_not_there_is_gone_also_when_a_gap_tells_of_it() -> None:
    key = RunAndType(RUN.hex().encode(), b"audit")
    found = judged([*numbered(1, 2, 6), gap(1, lost(3, 5))], known={key: [(1, 3), (6, 9)]})
    assert found.faults == (finding("gone", (3, 3), (7, 9)),)
    assert found.explained == (finding("reported lost", (4, 5)),)


def test_of_days_left_out_nothing_is_said() -> None:
    known = {RunAndType(RUN.hex().encode(), b"audit"): [(1, 9)], RunAndType(b"older", b"audit"): [(1, 9)]}
    messages = [heartbeat(40, relay=39, audit=5, alarm=3), *numbered(6, 8, 9), opening(run=NEXT, previous=RUN)]
    found = judged(messages, AssessmentScope(begun=True), known)
    assert found.faults == (finding("gone", (7, 7)),)
    assert judged([*messages, *numbered(2, run=NEXT)], AssessmentScope(begun=True), known).missing == 2


# --- Ceilings ---


def test_with_too_many_holes_the_older_half_are_counted_and_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.archive.completeness.number_trail._LOOK_EVERY", 1)
    trail = NumberTrail(max_intervals=10)
    every_second = range(2, 2002, 2)
    assert [trail.add(message, ROUTER) for message in numbered(*every_second)] == [""] * 1000
    assert trail.add(numbered(5)[0], ROUTER) == ""
    assert trail.add(numbered(2000)[0], ROUTER) == DUPLICATE
    found = trail.assess({}, EVERYTHING)
    assert (found.missing, found.unassessed) == (1000, 1)
    assert sum(len(each.ranges) + each.unnamed for each in found.faults) >= 1000


def test_runs_beyond_the_ceiling_are_not_judged_and_that_is_told() -> None:
    trail = NumberTrail(max_keys=2)
    for number in range(4):
        trail.add(own(2, run=f"{number:02x}"), ROUTER)
    found = trail.assess({}, EVERYTHING)
    assert (found.missing, found.unassessed) == (2, 2)


def test_unfinished_events_beyond_the_ceiling_are_missing() -> None:
    trail = NumberTrail(max_partial=1)
    for number in (1, 2):
        trail.add(own(number, part="1/2"), ROUTER)
    trail.add(own(3), ROUTER)
    kinds = [(each.kind, each.ranges) for each in trail.assess({}, EVERYTHING).faults]
    assert kinds == [("unfinished", ((2, 2),)), ("missing", ((1, 1),))]


def test_a_finding_names_the_first_ranges_and_counts_the_others() -> None:
    (found,) = judged(numbered(*range(2, 202, 2))).faults
    assert (found.numbers, len(found.ranges), found.unnamed) == (100, MAX_RANGES, 100 - MAX_RANGES)


# --- Against a plain model ---


@given(
    st.sets(st.integers(1, 60)).flatmap(lambda numbers: st.permutations(sorted(numbers))),
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30)), max_size=4),
    st.integers(0, 70),
)
def test_what_is_missing_is_what_is_neither_there_nor_told(there: list[int], spans: list[Span], last: int) -> None:
    told = [gap(number, lost(first, first + more), told=number) for number, (first, more) in enumerate(spans, 1)]
    found = judged([*numbered(*there), *told, heartbeat(len(told) + 1, audit=last)])
    should = set(range(1, max([*there, last]) + 1)) - set(there)
    accounted = {number for first, more in spans for number in range(first, first + more + 1)}
    named = {n for each in found.faults for first, end in each.ranges for n in range(first, end + 1)}
    assert named == should - accounted
    assert found.gaps.explained == len(should & accounted)


def test_what_never_waits_is_what_every_router_persists() -> None:
    """Except type log, which has few numbers and is not judged by itself."""
    assert {b"audit", b"alarm", b"provisioning", b"relay"} == RETAINED
