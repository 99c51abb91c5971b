"""Two records in one line, which a full disk makes: each source forwards, marks and counts it."""

import asyncio
from pathlib import Path

from harness.held_spool import HeldSpool
from harness.ports import free_port
from harness.waiting import until
from source import test_audit_dispatcher as by_dispatcher
from source.log_writing import Taken, audit_log, drain, record, text_of
from source.test_auditd_remote_source import run, running, source_at

from relay.syslog.auditd_remote import AuditdClient

JOINED = record(2)[:-9] + record(3)
"""The first lacks its end, LF and all."""


def test_in_a_log_it_is_marked_and_counted_and_the_next_records_are_whole(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(record(1) + JOINED + record(4))
    source = audit_log(log)
    events = drain(source).events
    assert source.malformed == 1
    assert [b' malformed="1"' in event.tail for event in events] == [False, True, False]
    params, _, message = text_of(events[1]).partition(b"] ")
    assert b'serial="2" malformed="1" pid="1"' in params
    assert message + b"\n" == JOINED


def test_of_another_auditd_it_is_marked_and_counted() -> None:
    async def scenario() -> None:
        spool, source, client = HeldSpool(), source_at(free_port()), AuditdClient()
        async with running(source, spool):
            _, writer = await asyncio.open_connection(*source.listen[0].address)
            writer.write(client.message(JOINED[:-1]))
            await until(lambda: spool.events)
            spool.sync()
            writer.close()
        assert b'serial="2" malformed="1" pid="1"' in spool.events[0].tail
        assert source.malformed == 1

    run(scenario())


def test_of_auditds_dispatcher_it_is_marked_and_counted(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "audit"
        taken, source = Taken(), by_dispatcher.dispatcher(path)
        async with by_dispatcher.running(source, taken):
            with by_dispatcher.plugin(path) as child:
                by_dispatcher.feed(child, JOINED)
                assert await asyncio.to_thread(by_dispatcher.end, child) == 0
        (event,) = taken.events
        assert b'serial="2" malformed="1" pid="1"' in event.tail
        assert source.malformed == 1

    by_dispatcher.play(work)
