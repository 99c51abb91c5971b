"""Whose numbers and reports count: strangers, two keys of one name, and routers of which nothing is verified."""

from collections.abc import Iterable

import pytest
from archive.messages import own
from archive.relay_events import NEXT, RUN, THIRD, gap, heartbeat, lost, numbered, opening

from relay.archive.completeness.assessment import AssessmentScope, Completeness
from relay.archive.completeness.number_trail import NumberTrail
from relay.archive.completeness.run_evidence import UNVERIFIED, RunEvidence, run_evidence
from relay.archive.completeness.spans import Span
from relay.values.event import EventType

ROUTER, OTHER = "SHA256:router", "SHA256:other"
HIGH = 10**15

Findings = list[tuple[str, tuple[Span, ...]]]


def judged(*sent: tuple[str, Iterable[bytes]]) -> Completeness:
    trail = NumberTrail()
    for sender, messages in sent:
        for message in messages:
            trail.add(message, sender)
    return trail.assess({}, AssessmentScope())


def faults(found: Completeness) -> Findings:
    return [(each.kind, each.ranges) for each in found.faults]


def claims(found: Completeness) -> Findings:
    return [(each.kind, each.ranges) for each in found.claims]


WHOLE = [opening(), *numbered(1, 2, 3), heartbeat(2, relay=1, audit=3)]
LACKING = [opening(), *numbered(1, 3), heartbeat(2, relay=1, audit=3)]
ONE_LINE = {
    "a heartbeat": [heartbeat(3, relay=2, audit=HIGH)],
    "a heartbeat far ahead, a number and a report in one": [heartbeat(900, relay=899, audit=HIGH)],
    "a heartbeat far ahead in its own run": [heartbeat(900, run=THIRD, relay=899)],
    "a heartbeat of its own run": [heartbeat(1, run=THIRD, audit=HIGH)],
    "an opening that names the run": [opening(run=THIRD, previous=RUN, relay=2, audit=HIGH)],
    "an opening that names a run of nobody": [opening(2, run=RUN, previous=THIRD, relay=9, audit=HIGH)],
    "a gap": [gap(3, lost(1, HIGH))],
    "a gap of its own run": [gap(1, lost(1, HIGH), run=THIRD)],
    "a high number": numbered(HIGH),
    "a number of its own run": numbered(HIGH, run=THIRD),
    "a part": [own(HIGH, run=RUN.hex(), part="1/2")],
    "a part of a number that is here": [own(2, run=RUN.hex(), part="1/2")],
    "a number that is here": numbered(3),
}


@pytest.mark.parametrize("line", ONE_LINE.values(), ids=ONE_LINE.keys())
@pytest.mark.parametrize("router", [ROUTER, UNVERIFIED])
def test_one_line_of_a_stranger_makes_no_archive_incomplete(router: str, line: list[bytes]) -> None:
    for sent in ([(router, WHOLE), (UNVERIFIED, line)], [(UNVERIFIED, line), (router, WHOLE)]):
        assert faults(judged(*sent)) == []


@pytest.mark.parametrize("line", ONE_LINE.values(), ids=ONE_LINE.keys())
@pytest.mark.parametrize("stranger", [UNVERIFIED, OTHER])
def test_one_line_of_a_stranger_excuses_no_number_of_a_verified_router(stranger: str, line: list[bytes]) -> None:
    for sent in ([(ROUTER, LACKING), (stranger, line)], [(stranger, line), (ROUTER, LACKING)]):
        found = judged(*sent)
        assert sum(each.numbers for each in found.faults if (2, 2) in each.ranges) == 1
        assert found.explained == ()


@pytest.mark.parametrize("line", ONE_LINE.values(), ids=ONE_LINE.keys())
def test_one_line_excuses_no_number_of_an_unverified_router(line: list[bytes]) -> None:
    found = judged((UNVERIFIED, [*LACKING, *line]))
    assert [(each.numbers, each.ranges) for each in found.faults] == [(1, ((2, 2),))]
    assert found.explained == ()


@pytest.mark.parametrize("line", ONE_LINE.values(), ids=ONE_LINE.keys())
def test_one_line_under_another_key_makes_no_run_of_the_router_incomplete(line: list[bytes]) -> None:
    found = judged((ROUTER, WHOLE), (OTHER, line))
    assert {each.run for each in found.faults} <= {THIRD.hex().encode()}


def test_what_a_verified_router_reports_is_a_proof_although_others_use_its_name() -> None:
    messages = [opening(), *numbered(1), gap(2, lost(2, 3)), heartbeat(3, relay=2, audit=5)]
    found = judged((ROUTER, messages), (OTHER, [opening(run=NEXT)]), (UNVERIFIED, [heartbeat(1, run=THIRD)]))
    assert faults(found) == [("missing", ((4, 5),))]
    assert [each.ranges for each in found.explained] == [((2, 3),)]
    assert (found.reporter, found.ignored_reports, found.gaps.reported) == ("contested", 1, 1)


def test_a_number_that_only_a_stranger_sent_is_not_the_routers() -> None:
    assert faults(judged((ROUTER, LACKING), (UNVERIFIED, numbered(2)))) == [("substituted", ((2, 2),))]
    assert faults(judged((ROUTER, [*LACKING, gap(3, lost(2, 2))]), (UNVERIFIED, numbered(2)))) == []


def test_parts_of_a_stranger_never_complete_or_reset_an_event() -> None:
    parts = [own(2, run=RUN.hex(), part=part) for part in ("1/2", "2/2")]
    assert faults(judged((ROUTER, [*LACKING, parts[0]]), (UNVERIFIED, parts[1:]))) == [("unfinished", ((2, 2),))]
    foreign = [own(2, run=RUN.hex(), part="1/3")]
    assert faults(judged((ROUTER, [*LACKING, parts[0]]), (UNVERIFIED, foreign), (ROUTER, parts[1:]))) == []


def test_behind_sshd_a_number_is_missing_when_a_higher_one_and_a_report_say_so() -> None:
    assert faults(judged((UNVERIFIED, LACKING))) == [("missing", ((2, 2),))]
    not_yet = judged((UNVERIFIED, LACKING[:-1]))
    assert (faults(not_yet), claims(not_yet)) == ([], [("unconfirmed", ((2, 2),))])
    found = judged((UNVERIFIED, [*LACKING, heartbeat(3, relay=2, audit=9)]))
    assert (faults(found), claims(found)) == ([("missing", ((2, 2),))], [("claimed", ((4, 9),))])
    assert found.reporter == "unverified"


def test_behind_sshd_a_gap_names_what_is_missing_and_excuses_nothing() -> None:
    found = judged((UNVERIFIED, [*LACKING, gap(3, lost(2, 2))]))
    assert (faults(found), found.explained, found.missing) == ([("named lost", ((2, 2),))], (), 1)
    assert found.gaps.reported == 1


def test_behind_sshd_a_run_of_which_nothing_came_is_claimed() -> None:
    messages = [opening(), *numbered(1), opening(run=THIRD, previous=NEXT, relay=1)]
    found = judged((UNVERIFIED, messages))
    assert (faults(found), claims(found)) == ([], [("claimed", ()), ("claimed", ((1, 1),))])


def test_a_stranger_never_moves_a_missing_run_before_the_archives_beginning() -> None:
    messages = [opening(), *numbered(1), opening(run=THIRD, previous=NEXT, relay=1)]
    forged = [opening(run=b"\7" * 8, previous=NEXT, relay=1)]
    assert [kind for kind, _ in faults(judged((UNVERIFIED, forged), (ROUTER, messages)))] == ["run missing", "missing"]


def test_a_router_that_got_a_key_goes_on_proving_the_run_before() -> None:
    before, after = [opening(), *numbered(1, 3)], [opening(run=NEXT, previous=RUN, relay=1, audit=4)]
    assert faults(judged((UNVERIFIED, before), (ROUTER, after))) == [("missing", ((2, 2), (4, 4)))]
    accounted = [*after, gap(2, lost(2, 4, 2), run=NEXT)]
    assert faults(judged((UNVERIFIED, before), (ROUTER, accounted))) == []


def test_two_keys_in_one_run_are_contested_and_neither_excuses_or_proves_alone() -> None:
    first = [opening(), *numbered(1, 2), gap(2, lost(3, 4))]
    assert faults(judged((ROUTER, first), (OTHER, numbered(5)))) == []
    found = judged((ROUTER, first), (OTHER, [*numbered(5), heartbeat(3, relay=2, audit=9)]))
    assert (faults(found), claims(found)) == ([("named lost", ((3, 4),))], [("claimed", ((6, 9),))])
    assert found.reporter == "contested"


def test_what_strangers_fill_up_leaves_room_for_verified_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.archive.completeness.number_trail.MAX_SENDERS", 2)
    trail = NumberTrail(max_keys=4, max_partial=1)
    for number in range(9):
        trail.add(own(2, run=f"{number:02x}"))
        trail.add(own(number + 1, part="1/2"))
        trail.add(gap(1, lost(1, 9), run=bytes([number])))
    for message in [*LACKING, own(4, run=RUN.hex(), part="1/2"), gap(3, lost(2, 2))]:
        trail.add(message, ROUTER)
    found = trail.assess({}, AssessmentScope())
    assert found.unassessed == 0
    assert [each.ranges for each in found.explained] == [((2, 2),)]
    assert (RUN.hex().encode(), "unfinished") in [(each.run, each.kind) for each in found.waiting]


def test_holes_of_strangers_never_make_the_routers_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.archive.completeness.number_trail._LOOK_EVERY", 1)
    trail = NumberTrail(max_intervals=10)
    for message in [opening(), *numbered(1, 3, 5, 7, 9), gap(2, lost(1, 9, 4))]:
        trail.add(message, ROUTER)
    for number in range(40):
        for message in numbered(2, 4, run=bytes([number])):
            trail.add(message)
    trail.add(numbered(10)[0], ROUTER)
    found = trail.assess({}, AssessmentScope())
    assert (faults(found), sum(each.numbers for each in found.explained)) == ([], 4)


def test_gaps_of_strangers_leave_room_for_the_routers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.archive.completeness.reported_gaps.MAX_LOST", 3)
    forged = [gap(number, lost(number, number, kind=EventType.ALARM), told=number) for number in range(1, 9)]
    assert faults(judged((UNVERIFIED, forged), (ROUTER, [*LACKING, gap(3, lost(2, 2))]))) == []


@pytest.mark.parametrize(
    ("senders", "verified", "expected"),
    [
        ({ROUTER}, {ROUTER}, RunEvidence((ROUTER,), ROUTER, is_proven=True)),
        ({ROUTER, UNVERIFIED}, {ROUTER, OTHER}, RunEvidence((ROUTER,), ROUTER, is_proven=True)),
        ({ROUTER, OTHER}, {ROUTER, OTHER}, RunEvidence((OTHER, ROUTER), None, is_proven=False)),
        ({UNVERIFIED}, {ROUTER}, RunEvidence((UNVERIFIED,), ROUTER, is_proven=False)),
        ({UNVERIFIED}, {ROUTER, OTHER}, RunEvidence((UNVERIFIED,), None, is_proven=False)),
        (set(), {ROUTER}, RunEvidence((UNVERIFIED,), ROUTER, is_proven=True)),
        (set(), set(), RunEvidence((UNVERIFIED,), None, is_proven=False)),
    ],
)
def test_whose_a_run_is(senders: set[str], verified: set[str], expected: RunEvidence) -> None:
    assert run_evidence(senders, verified) == expected
