"""The alarm when auditd audits relay itself."""

import asyncio

from source.log_writing import Taken

from relay.events.audit.assembly import AuditEvent
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse
from relay.program.watch.own_records import LIMIT, WINDOW, OwnRecords
from relay.values.event import Batch, Event

MAPPING = AuditMapping(hostname="combo1", router="combo1")
SECOND = 1_000_000


def event(body: str, kind: str = "SYSCALL") -> Event:
    record = parse(f"type={kind} msg=audit(1709742862.001:7): {body}".encode())
    assert record is not None
    return MAPPING.events(AuditEvent((record,)))[0]


def events(*records: tuple[str, str]) -> list[Event]:
    parsed = [parse(f"type={kind} msg=audit(1709742862.001:7): {body}".encode()) for kind, body in records]
    return MAPPING.events(AuditEvent(tuple(record for record in parsed if record is not None)))


def hear(own: OwnRecords, *given: Event) -> None:
    taken = Taken()

    async def hand_over() -> None:
        await (await own.hear(taken.submit)(Batch(given)))

    asyncio.run(hand_over())
    assert taken.events == list(given)


def test_only_what_its_own_process_causes_counts() -> None:
    own = OwnRecords(4711, 0)
    hear(own, event("syscall=1 ppid=1 pid=4711 uid=0"), event("syscall=59 ppid=4711 pid=4712"))
    assert own.events == 2
    hear(
        own,
        event("syscall=1 ppid=1 pid=14711"),
        event("syscall=1 ppid=1 pid=47110"),
        event("pid=4711 res=success", kind="USER"),  # its own canary
        event("opid=4711", kind="OBJ_PID"),  # somebody else's signal
    )
    assert own.events == 2


def test_it_counts_whichever_record_of_its_event_came_first() -> None:
    """An AppArmor denial or a LOGIN comes before the SYSCALL that it is about."""
    own = OwnRecords(4711, 0)
    hear(own, *events(("AVC", "avc:  denied  { read } for  pid=4711"), ("SYSCALL", "syscall=2 ppid=1 pid=4711")))
    hear(own, *events(("BPF", "prog-id=22 op=LOAD"), ("SYSCALL", "syscall=2 ppid=4711 pid=4712")))
    assert own.events == 2
    hear(own, *events(("SYSCALL", "syscall=62 ppid=1 pid=1"), ("OBJ_PID", 'opid=4711 ocomm="relay"')))
    hear(own, *events(("AVC", "avc:  denied  { read } for  pid=4711"), ("SYSCALL", "syscall=2 ppid=1 pid=14711")))
    assert own.events == 2


def test_a_loop_raises_the_alarm_and_its_end_clears_it() -> None:
    own = OwnRecords(4711, 0)
    hear(own, *[event("ppid=1 pid=4711")] * (LIMIT - 1))
    assert own.alarm_wanted(SECOND) is None
    hear(own, event("ppid=1 pid=4711"))
    alarm = own.alarm_wanted(2 * SECOND)
    assert alarm is not None
    assert "deploy/relay.rules" in alarm.text
    assert own.alarm_wanted(WINDOW) == alarm
    assert own.alarm_wanted(2 * WINDOW - 1) == alarm
    assert own.alarm_wanted(2 * WINDOW) is None


def test_few_in_every_minute_are_no_loop() -> None:
    own = OwnRecords(4711, 0)
    for minute in range(1, 10):
        hear(own, *[event("ppid=1 pid=4711")] * (LIMIT // 2))
        assert own.alarm_wanted(minute * WINDOW) is None
