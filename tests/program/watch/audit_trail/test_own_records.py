"""Events that relay itself causes are counted, so that a loop is found."""

from relay.events.audit.assembly import AuditEvent
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse
from relay.program.watch.audit_trail.own_records import LIMIT, WINDOW, OwnRecords
from relay.values.event import Event

MAPPING = AuditMapping(hostname="combo1", router="combo1")
SECOND = 1_000_000


def event(body: str, kind: str = "SYSCALL") -> Event:
    record = parse(f"type={kind} msg=audit(1709742862.001:7): {body}".encode())
    assert record is not None
    return MAPPING.events(AuditEvent((record,)))[0]


def events(*records: tuple[str, str]) -> list[Event]:
    parsed = [parse(f"type={kind} msg=audit(1709742862.001:7): {body}".encode()) for kind, body in records]
    return MAPPING.events(AuditEvent(tuple(record for record in parsed if record is not None)))


def test_only_events_of_its_own_process_and_its_children_are_counted() -> None:
    own = OwnRecords(4711, 0)
    own.count([event("syscall=1 ppid=1 pid=4711 uid=0"), event("syscall=59 ppid=4711 pid=4712")])
    assert own.events == 2
    own.count(
        [
            event("syscall=1 ppid=1 pid=14711"),
            event("syscall=1 ppid=1 pid=47110"),
            event("pid=4711 res=success", kind="USER"),  # its own canary
            event("opid=4711", kind="OBJ_PID"),  # a signal from another process
        ]
    )
    assert own.events == 2


def test_an_event_is_counted_by_its_syscall_record_whatever_its_first_record_is() -> None:
    """An AppArmor denial or a LOGIN comes before the SYSCALL that it is about."""
    own = OwnRecords(4711, 0)
    own.count(events(("AVC", "avc:  denied  { read } for  pid=4711"), ("SYSCALL", "syscall=2 ppid=1 pid=4711")))
    own.count(events(("BPF", "prog-id=22 op=LOAD"), ("SYSCALL", "syscall=2 ppid=4711 pid=4712")))
    assert own.events == 2
    own.count(events(("SYSCALL", "syscall=62 ppid=1 pid=1"), ("OBJ_PID", 'opid=4711 ocomm="relay"')))
    own.count(events(("AVC", "avc:  denied  { read } for  pid=4711"), ("SYSCALL", "syscall=2 ppid=1 pid=14711")))
    assert own.events == 2


def test_a_loop_is_seen_at_once_and_until_a_whole_minute_without_it() -> None:
    own = OwnRecords(4711, 0)
    own.count([event("ppid=1 pid=4711")] * LIMIT)
    assert [own.per_minute(now) for now in (SECOND, WINDOW, 2 * WINDOW - 1, 2 * WINDOW)] == [LIMIT, LIMIT, LIMIT, 0]


def test_few_events_in_every_minute_do_not_add_up() -> None:
    own = OwnRecords(4711, 0)
    for minute in range(1, 10):
        own.count([event("ppid=1 pid=4711")] * (LIMIT // 2))
        assert own.per_minute(minute * WINDOW) == LIMIT // 2
