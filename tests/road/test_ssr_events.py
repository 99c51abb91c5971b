"""SSR events from a real collector child to the archive of a real receiver, over SSH."""

import json
import random
import re
import signal
import sys
from pathlib import Path

import pytest
from harness.openssh import Sshd
from harness.process import Process, descendants, signal_all
from harness.receiver import Receiver
from harness.relay import Router, archived
from harness.waiting import wait_until

COLLECTOR = Path(__file__).parents[1] / "source" / "collector.py"
_NUMBER = re.compile(rb' number="(\d+)"')


def with_events(router: Router, *arguments: str, name: str = "events", more: str = "") -> None:
    """Add the collector to the router's sources, and `more` lines to the configuration."""
    router.audit_log.touch()
    index = router.folder / f"{name}.index"
    command = [sys.executable, "-I", "-S", str(COLLECTOR), "--index-file", str(index), *arguments]
    with router.configuration.open("a") as file:
        file.write(f'[[source]]\nname = "{name}"\ntype = "event-collector"\ncommand = {json.dumps(command)}\n{more}\n')


def numbers(receiver: Receiver) -> list[int]:
    """The archived events of the collector, by the numbers that it gave them."""
    found = (_NUMBER.search(message) for message in archived(receiver.archive))
    return [int(match[1]) for match in found if match]


def wait_for_more(receiver: Receiver, process: Process, target: int) -> None:
    wait_until(lambda: len(numbers(receiver)) >= target or not process.running, 60, lambda: process.log)
    assert process.running, process.log


def test_every_event_is_archived_once_with_an_identity(tmp_path: Path, receiver: Receiver) -> None:
    with receiver.running(), Sshd() as sshd:
        router = Router(tmp_path, sshd, receiver.port)
        with_events(router, "--events", "500")
        for _ in range(2):
            done = router.drain()
            assert (done.returncode, done.stderr) == (0, "")
        wait_until(lambda: len(numbers(receiver)) >= 500, 20, "500 archived events")
        assert sorted(numbers(receiver)) == list(range(1, 501))
        (source,) = (each for each in router.status()["sources"] if each["name"] == "events")
        assert source["events"] == 500
        event = next(message for message in archived(receiver.archive) if b' number="7"' in message)
        header, _, rest = event.partition(b" [128T ")
        assert header == b"<13>1 2023-11-14T22:13:20.000Z combo1 128T - events"
        assert re.fullmatch(
            rb'relayRun="[0-9a-f]{16}" relaySeq="7" type="admin" router="combo1" node="n1" '
            rb'diff="change 7\n-old \\"a\\"\n\+new x+" number="7"\]',
            rest,
        )


def test_both_the_filters_and_the_categories_must_let_an_event_pass(tmp_path: Path, receiver: Receiver) -> None:
    with receiver.running(), Sshd() as sshd:
        router = Router(tmp_path, sshd, receiver.port)
        with_events(router, "--events", "5", name="filtered", more='tagdrop = { type = ["ad*"] }')
        done = router.drain()
        assert (done.returncode, done.stderr) == (0, "")
        with_events(router, "--events", "5", name="disabled", more="[audit.administration]\nenabled = false")
        done = router.drain()
        assert (done.returncode, done.stderr) == (0, "")
        assert numbers(receiver) == []
        router.write_configuration()
        with_events(router, "--events", "5", name="neither")
        assert router.drain().returncode == 0
        wait_until(lambda: sorted(numbers(receiver)) == [1, 2, 3, 4, 5], 20, "five events")


@pytest.mark.parametrize("order", ["write-first", "index-first"])
def test_whoever_is_killed_when_nothing_is_lost(tmp_path: Path, receiver: Receiver, order: str) -> None:
    """Relay alone or after its child, at any moment; what comes again has another identity."""
    chance = random.Random(order)
    with receiver.running(), Sshd() as sshd:
        router = Router(tmp_path, sshd, receiver.port)
        with_events(router, "--events", "300", "--order", order, "--pause", "0.002", "--stay")
        while max(numbers(receiver), default=0) < 200:
            before = len(numbers(receiver))
            with router.start() as process:
                wait_for_more(receiver, process, before + chance.randrange(1, 80))
                if chance.random() < 0.5:
                    signal_all(descendants(process.pid), signal.SIGKILL)
                    wait_for_more(receiver, process, len(numbers(receiver)) + 1)
                process.kill()
        done = router.drain()
        assert done.returncode == 0, done.stderr
        wait_until(lambda: 300 in numbers(receiver), 20, "the last event")
        assert sorted(set(numbers(receiver))) == list(range(1, 301))
