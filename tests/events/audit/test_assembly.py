"""Records become events: when an event leaves, what it holds, and what happens at each ceiling."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events.audit import assembly
from relay.events.audit.assembly import Assembler, AuditEvent
from relay.events.audit.record import Record, parse


def record(type_: str, serial: int, *, millis: int = 929_678, node: str = "", body: str = "a=1") -> Record:
    prefix = f"node={node} " if node else ""
    stamp = f"{1709742000 + millis // 1000}.{millis % 1000:03}:{serial}"
    found = parse(f"{prefix}type={type_} msg=audit({stamp}): {body}".encode())
    assert found is not None
    return found


def types(event: AuditEvent) -> list[str]:
    return [each.type.decode() for each in event.records]


def feed_all(assembler: Assembler[int], records: Iterable[Record], now: float = 0.0) -> list[AuditEvent]:
    return [event for place, each in enumerate(records) for event in assembler.feed(each, place, now)]


def feed_and_flush(assembler: Assembler[int], records: Iterable[Record]) -> list[AuditEvent]:
    return [*feed_all(assembler, records), *assembler.flush()]


def test_a_user_space_record_is_an_event_and_leaves_with_the_next_record() -> None:
    assembler = Assembler[int]()
    login, logout = record("USER_LOGIN", 1), record("USER_LOGOUT", 2)
    assert assembler.feed(login, 0, 0.0) == []
    assert assembler.is_whole
    assert assembler.feed(logout, 1, 0.0) == [AuditEvent((login,))]
    assert assembler.flush() == [AuditEvent((logout,))]
    assert assembler.open == []
    assert assembler.deadline is None


def test_a_complete_event_leaves_soon_without_another_record() -> None:
    assembler = Assembler[int]()
    login = record("USER_LOGIN", 1)
    feed_all(assembler, [record("SYSCALL", 2)], 9.0)
    assembler.feed(login, 0, 10.0)
    assert assembler.deadline == 10.0 + assembly.TOGETHER_S
    assert assembler.expire(10.0) == []
    assert assembler.expire(10.0 + assembly.TOGETHER_S) == [AuditEvent((login,))]
    assert assembler.deadline == 9.0 + assembly.SILENCE_S
    assert not assembler.is_whole


def test_a_complete_event_leaves_with_a_line_that_is_not_a_record() -> None:
    assembler = Assembler[int]()
    login = record("USER_LOGIN", 1)
    feed_all(assembler, [record("SYSCALL", 2), login])
    assert assembler.interrupt() == [AuditEvent((login,))]
    assert assembler.interrupt() == []


def test_one_serial_is_one_event_although_libaudit_splits_it_at_the_login_record() -> None:
    """The seed's event 2340: LOGIN, SYSCALL and PROCTITLE."""
    records = [record(type_, 2340) for type_ in ("LOGIN", "SYSCALL", "PROCTITLE")]
    assert feed_and_flush(Assembler[int](), records) == [AuditEvent(tuple(records))]


@pytest.mark.parametrize(
    "together",
    [
        ("SERVICE_START", "SYSCALL", "SOCKADDR", "UNKNOWN[1420]"),
        ("ADD_USER", "SYSCALL", "PROCTITLE", "UNKNOWN[1420]"),
        ("SYSCALL", "UNKNOWN[1420]", "CONFIG_CHANGE", "UNKNOWN[1420]", "PROCTITLE"),
        ("USER_AUTH", "USER_AUTH"),
    ],
)
def test_adjacent_records_of_one_serial_are_one_event_wherever_the_completing_record_is(
    together: tuple[str, ...],
) -> None:
    records = [record(type_, 7) for type_ in together]
    others = [record("SYSCALL", 6), record("USER", 8)]
    assembler = Assembler[int]()
    assert feed_and_flush(assembler, [others[0], *records, others[1]]) == [
        AuditEvent(tuple(records)),
        AuditEvent((others[0],)),
        AuditEvent((others[1],)),
    ]
    late = record("PATH", 7)
    assert assembler.feed(late, 0, 0.0) == [AuditEvent((late,), late=True)]


def test_interleaved_events_are_sorted_out_in_the_order_in_which_they_complete() -> None:
    fed = [("SYSCALL", 1), ("SYSCALL", 2), ("PATH", 1), ("USER_AUTH", 3), ("EOE", 2), ("CWD", 1), ("PROCTITLE", 1)]
    left = feed_and_flush(Assembler[int](), [record(type_, serial, body="") for type_, serial in fed])
    assert [(event.records[0].serial, types(event)) for event in left] == [
        (3, ["USER_AUTH"]),
        (2, ["SYSCALL"]),
        (1, ["SYSCALL", "PATH", "CWD", "PROCTITLE"]),
    ]


def test_an_end_of_event_makes_no_event() -> None:
    assembler = Assembler[int]()
    end, syscall, title = (record(type_, 1, body="") for type_ in ("EOE", "SYSCALL", "PROCTITLE"))
    assert feed_all(assembler, [record("EOE", 9, body=" "), syscall, title]) == []
    assert assembler.feed(end, 3, 0.0) == [AuditEvent((syscall, title))]
    assert feed_all(assembler, [end, record("EOE", 8, body="")]) == []
    assert assembler.open == []


def test_an_end_of_event_whose_line_holds_anything_else_is_a_record() -> None:
    end = parse(b"type=EOE msg=audit(1709742929.678:1): type=USER msg=audit(1709742929.678:2): pid=1")
    assert end is not None
    assert end.joined
    syscall, strange = record("SYSCALL", 1), record("EOE", 3, body="a=1")
    assert feed_and_flush(Assembler[int](), [syscall, end, strange]) == [
        AuditEvent((syscall, end)),
        AuditEvent((strange,)),
    ]


def test_the_same_serial_of_two_nodes_or_two_times_is_two_events() -> None:
    assembler = Assembler[int]()
    feed_all(assembler, [record("SYSCALL", 1, node="a"), record("SYSCALL", 1), record("SYSCALL", 1, millis=5)])
    assert len(assembler.open) == 3


def test_a_time_stamp_two_seconds_later_closes_an_event() -> None:
    """The seed's event 2349, a SYSCALL alone, leaves only in this way or by silence."""
    assembler = Assembler[int]()
    alone = record("SYSCALL", 2349, millis=10_000)
    assert feed_all(assembler, [alone, record("SYSCALL", 2350, millis=11_999)]) == []
    assert assembler.feed(record("USER_END", 2351, millis=12_000), 2, 0.0) == [AuditEvent((alone,))]
    assert [event.key[1] for event in assembler.open] == [2350, 2351]


def test_events_overtaken_together_leave_in_the_order_in_which_they_began() -> None:
    assembler = Assembler[int]()
    begun = [record("SYSCALL", 8, millis=500), record("SYSCALL", 7, millis=0), record("SYSCALL", 9, millis=9_000)]
    left = feed_all(assembler, begun)
    assert [event.records[0].serial for event in left] == [8, 7]


def test_another_nodes_clock_closes_nothing() -> None:
    assembler = Assembler[int]()
    assert feed_all(assembler, [record("SYSCALL", 1, node="a"), record("USER", 1, node="b", millis=999_999)]) == []
    left = feed_all(assembler, [record("USER", 2, node="a", millis=999_999)])
    assert [event.records[0].node for event in left] == [b"b", b"a"]


def test_a_clock_that_was_set_back_closes_nothing() -> None:
    assembler = Assembler[int]()
    feed_all(assembler, [record("SYSCALL", 1, millis=500_000)])
    assert feed_all(assembler, [record("SYSCALL", 2, millis=0), record("SYSCALL", 3, millis=1_999)]) == []
    assert [event.records[0].serial for event in feed_all(assembler, [record("PATH", 4, millis=2_000)])] == [2]


def test_two_seconds_of_silence_close_an_event() -> None:
    assembler = Assembler[int]()
    first, second = record("SYSCALL", 1), record("PATH", 1)
    assembler.feed(first, 0, 10.0)
    assert assembler.deadline == 12.0
    assembler.feed(second, 1, 11.5)
    assert assembler.deadline == 13.5
    assert assembler.expire(13.4) == []
    assert assembler.expire(13.5) == [AuditEvent((first, second))]
    assert assembler.deadline is None


def test_a_record_that_comes_after_its_event_has_left_leaves_alone_and_is_marked_late() -> None:
    assembler = Assembler[int]()
    feed_all(assembler, [record("SYSCALL", 1), record("PROCTITLE", 1), record("EOE", 1, body="")])
    late = record("PATH", 1)
    assert assembler.feed(late, 2, 0.0) == [AuditEvent((late,), late=True)]
    assert assembler.open == []


def test_late_records_are_known_among_events_that_are_open() -> None:
    assembler = Assembler[int]()
    left = feed_all(assembler, [record("USER_AUTH", 1), record("SYSCALL", 2), record("PATH", 1)])
    assert [event.late for event in left] == [False, True]


def test_at_least_the_last_1024_events_that_left_are_known_and_not_for_ever() -> None:
    assembler = Assembler[int]()
    feed_and_flush(assembler, [record("USER", serial) for serial in range(5_000)])
    assert all(assembler.feed(record("PATH", serial), 0, 0.0)[0].late for serial in range(5_000 - 1024, 5_000))
    assert assembler.feed(record("PATH", 0), 0, 0.0) == []
    assert len(assembler._left) + len(assembler._left_before) <= 2 * assembly.REMEMBERED_EVENTS


def test_beyond_256_open_events_the_oldest_leaves() -> None:
    assembler = Assembler[int]()
    left = feed_all(assembler, [record("SYSCALL", serial) for serial in range(258)])
    assert [event.records[0].serial for event in left] == [0, 1]
    assert len(assembler.open) == assembly.MAX_OPEN_EVENTS


def test_beyond_16_mib_of_open_records_the_oldest_leave() -> None:
    assembler = Assembler[int]()
    body = "a=" + "x" * (assembly.MAX_EVENT_BYTES - 1000)
    left = feed_all(assembler, [record("SYSCALL", serial, body=body) for serial in range(20)])
    assert [event.records[0].serial for event in left] == [0, 1, 2, 3]
    assert len(assembler.open) == 16


def test_an_event_of_1024_records_accepts_no_further_record() -> None:
    assembler = Assembler[int]()
    left = feed_all(assembler, [record("PATH", 1, body=f"item={nth}") for nth in range(1026)])
    assert [(len(event.records), event.late) for event in left] == [(1024, False), (1, True), (1, True)]


def test_an_event_of_a_mebibyte_accepts_no_further_record() -> None:
    assembler = Assembler[int]()
    body = "a=" + "x" * 400_000
    left = feed_all(assembler, [record("PATH", 1, body=body) for _ in range(3)])
    assert [(len(event.records), event.late) for event in left] == [(2, False), (1, True)]


def test_a_record_larger_than_an_event_may_be_goes_through() -> None:
    assembler = Assembler[int]()
    huge = record("PATH", 1, body="a=" + "x" * (2 * assembly.MAX_EVENT_BYTES))
    assert assembler.feed(huge, 0, 0.0) == []
    assert assembler.flush() == [AuditEvent((huge,))]


def test_flush_closes_everything_in_the_order_in_which_it_began() -> None:
    assembler = Assembler[int]()
    feed_all(assembler, [record("SYSCALL", 2), record("SYSCALL", 1), record("PATH", 2)])
    assert [(event.records[0].serial, len(event.records)) for event in assembler.flush()] == [(2, 2), (1, 1)]
    assert assembler.flush() == []


def test_after_a_restart_the_open_events_are_read_again_and_go_on_as_if_nothing_had_been() -> None:
    """Restart like the source: keep `open`, read from the first location on, and resume the records of those keys."""
    log = [
        record(type_, serial, millis=millis)
        for type_, serial, millis in [
            ("SYSCALL", 1, 0),
            ("SYSCALL", 2, 100),
            ("PATH", 1, 0),
            ("USER", 3, 200),
            ("SYSCALL", 4, 300),
            ("PROCTITLE", 2, 100),
            ("PATH", 1, 0),
            ("PROCTITLE", 4, 300),
            ("UNKNOWN[1420]", 4, 300),
            ("PROCTITLE", 1, 0),
            ("UNKNOWN[1420]", 1, 0),
        ]
    ]
    whole = feed_all(Assembler[int](), log)
    for stop in range(len(log) + 1):
        before = Assembler[int]()
        left = feed_all(before, log[:stop])
        after = Assembler[int]()
        first_places = {event.key: event.location for event in before.open}
        for place, each in enumerate(log[:stop]):
            if place >= first_places.get(each.key, stop):
                after.resume(each, place, 0.0)
        assert after.open == before.open
        left += feed_all(after, log[stop:])
        assert left == whole


@st.composite
def any_records(draw: st.DrawFn) -> list[Record]:
    kinds = st.sampled_from(["SYSCALL", "PATH", "PROCTITLE", "EOE", "USER_AUTH", "LOGIN", "UNKNOWN[1334]"])
    drawn = draw(
        st.lists(
            st.tuples(kinds, st.integers(0, 5), st.integers(0, 5_000), st.sampled_from(["", "a", "b"])), max_size=60
        )
    )
    # The place in the list is in the body, so that no two records are equal.
    return [
        record(kind, serial, millis=millis, node=node, body="" if kind == "EOE" else f"nth={nth}")
        for nth, (kind, serial, millis, node) in enumerate(drawn)
    ]


@given(any_records(), st.lists(st.floats(0, 3), min_size=60, max_size=60))
def test_every_record_leaves_exactly_once_and_in_the_company_of_its_event(
    records: list[Record], pauses: list[float]
) -> None:
    assembler = Assembler[int]()
    left: list[AuditEvent] = []
    now = 0.0
    for place, (each, pause) in enumerate(zip(records, pauses, strict=False)):
        now += pause
        left += assembler.expire(now)
        left += assembler.feed(each, place, now)
        deadline = assembler.deadline
        assert (deadline is None) == (assembler.open == [])
        assert deadline is None or deadline > now
    left += assembler.flush()
    kept = [each.line for each in records if each.type != b"EOE"]
    assert sorted(each.line for event in left for each in event.records) == sorted(kept)
    for event in left:
        assert len({each.key for each in event.records}) == 1
        assert not event.late or len(event.records) == 1
    whole = [event.records[0].key for event in left if not event.late]
    assert len(whole) == len(set(whole))


@given(any_records())
def test_without_silence_the_same_records_give_the_same_events(records: list[Record]) -> None:
    first, second = Assembler[int](), Assembler[int]()
    assert feed_all(first, records) == feed_all(second, records)
    assert first.open == second.open


@pytest.mark.parametrize("limit", [1, 3])
def test_memory_is_freed_when_events_leave(limit: int) -> None:
    assembler = Assembler[int]()
    for serial in range(limit):
        feed_and_flush(assembler, [record("SYSCALL", serial), record("PROCTITLE", serial)])
    assert assembler._open_bytes == 0
