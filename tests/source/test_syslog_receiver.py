"""The source `syslog`: the tests of the listeners have the rest."""

import asyncio
import socket

import pytest
from harness.held_spool import PromptSpool
from harness.ports import LOOPBACK, free_port
from harness.waiting import until

from relay.events.own_events import Author
from relay.source import syslog_receiver
from relay.source.syslog_receiver import SyslogReceiver
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.configuration.source_settings import SyslogSource


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
        await until(lambda: source.counters()["listeners"]["refused_connections"] == 5)
        assert source.counters()["listeners"]["open"] == 25
        for program in programs:
            program.close()
        source.finish()
        await running

    asyncio.run(scenario())
