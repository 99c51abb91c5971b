"""The source `syslog`: the tests of the listeners have the rest."""

import asyncio
import socket

import pytest
from harness.held_spool import HeldSpool, PromptSpool
from harness.ports import LOOPBACK, free_port
from harness.waiting import until
from listener.test_relp_listener import OPEN

from relay.events.own_events import Author
from relay.source import SourceTerms, syslog_receiver
from relay.source.syslog_receiver import SyslogReceiver
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.configuration.source_settings import SyslogSource

SESSION = OPEN + b"2 syslog 5 <1>ab\n"


def test_programs_cannot_take_the_descriptors_that_the_spool_and_the_delivery_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(syslog_receiver, "raise_descriptor_limit", lambda: 100)
    port = free_port()
    table = SyslogSource(name="local", listen=(ListenerUrl.parse(f"tcp://{LOOPBACK}:{port}"),))
    source = SyslogReceiver(table, Author("h", "h", "", "128T"))

    async def scenario() -> None:
        running = asyncio.create_task(source.run(PromptSpool().submit, None, drain=False))
        await until(source.counters)
        programs = [socket.create_connection((LOOPBACK, port)) for _ in range(30)]

        def turned_away() -> int:
            counted = source.counters()["listeners"]
            return counted["refused_connections"] + counted["made_room"]  # by those that come a second later

        await until(lambda: turned_away() == 5 and source.counters()["listeners"]["open"] == 25)
        for program in programs:
            program.close()
        source.finish()
        await running

    asyncio.run(scenario())


def test_on_a_full_disk_a_sender_that_waits_for_answers_and_gives_up_leaves_nothing_behind() -> None:
    """It sends again; each attempt would be one more duplicate, and one more connection that waits."""
    writable, port = asyncio.Event(), free_port()
    table = SyslogSource(name="local", listen=(ListenerUrl.parse(f"tcp://{LOOPBACK}:{port}"),))
    source = SyslogReceiver.from_settings(table, SourceTerms(Author("h", "h", "", "128T"), "event", writable))
    spool = HeldSpool()

    async def scenario() -> None:
        running = asyncio.create_task(source.run(spool.submit, None, drain=False))
        await until(source.counters)
        for octets in (len(SESSION), 2 * len(SESSION)):
            with socket.create_connection((LOOPBACK, port)) as program:
                program.sendall(SESSION)
                await until(lambda: source.counters()["listeners"]["octets"] == octets)  # noqa: B023  used at once
        await until(lambda: source.counters()["listeners"]["open"] == 0)
        assert not spool.batches
        source.finish()
        await running

    asyncio.run(scenario())
