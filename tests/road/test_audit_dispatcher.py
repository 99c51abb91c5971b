"""auditd's plugin, the relay that it hands records over to, and the far end; relay is killed meanwhile."""

import re
import subprocess
from pathlib import Path

import pytest
from harness.openssh import Sshd
from harness.receiver import Receiver
from harness.records import closed, generate, serials
from harness.relay import RELAY, Router
from harness.waiting import wait_until

RECORDS = 2000
_SERIAL = re.compile(rb' serial="(\d+)"')


@pytest.fixture
def far_end(receiver: Receiver) -> Receiver:
    return receiver


def arrived(receiver: Receiver) -> set[int]:
    return {int(found[1]) for message in receiver.messages() if (found := _SERIAL.search(message))}


def test_a_killed_relay_loses_no_record_from_auditds_dispatcher(tmp_path: Path, sshd: Sshd, receiver: Receiver) -> None:
    router = Router(tmp_path, sshd, receiver.port, protocol="relp")
    way = tmp_path / "plugin"
    with router.configuration.open("a") as configuration:
        configuration.write(f'[[source]]\nname = "live"\ntype = "audit-dispatcher"\nsocket = "{way}"\n')
    data = [closed(generate(RECORDS, first_serial=first)) for first in (100_000, 200_000)]
    plugin = subprocess.Popen([*RELAY, "dispatch", str(way)], stdin=subprocess.PIPE)
    assert plugin.stdin is not None
    try:
        with receiver.running():
            for piece in data:
                with router.start() as relay:
                    plugin.stdin.write(piece)
                    plugin.stdin.flush()
                    wait_until(lambda: serials(piece) & arrived(receiver), 60, lambda: relay.log)  # noqa: B023  at once
                    relay.kill()
            with router.start() as relay:
                plugin.stdin.close()
                assert plugin.wait(60) == 0, relay.log
                expected = serials(b"".join(data))
                wait_until(lambda: arrived(receiver) == expected, 60, lambda: relay.log)
    finally:
        plugin.kill()
        plugin.wait()
