"""SSR events from a real collector child to the archive of a real receiver, over SSH."""

import json
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness.openssh import Sshd
from harness.process import Process, descendants, signal_all
from harness.receiver import Receiver
from harness.relay import RELAY, Router, archived
from harness.waiting import wait_until

COLLECTOR = Path(__file__).parents[1] / "source" / "collector.py"
AGENT = Path(__file__).parents[1] / "config" / "ssr" / "monitoring"
LAST = 300
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
    """Return once so many have arrived, or the last one."""

    def have_come() -> bool:
        found = numbers(receiver)
        return len(found) >= target or LAST in found

    wait_until(lambda: have_come() or not process.running, 60, lambda: process.log)
    assert process.running, process.log


def test_every_event_is_archived_once_with_an_identity(tmp_path: Path, receiver: Receiver) -> None:
    with receiver.running(), Sshd() as sshd:
        router = Router(tmp_path, sshd, receiver.port)
        with_events(router, "--events", "500", more='tags = { site = "berlin", type = "system" }')
        for _ in range(2):
            done = router.drain()
            assert (done.returncode, done.stderr) == (0, "")
        wait_until(lambda: len(numbers(receiver)) >= 500, 60, "500 archived events")
        assert sorted(numbers(receiver)) == list(range(1, 501))
        (source,) = (each for each in router.status()["sources"] if each["name"] == "events")
        assert source["events"] == 500
        event = next(message for message in archived(receiver.archive) if b' number="7"' in message)
        header, _, rest = event.partition(b" [128T ")
        assert header == b"<13>1 2023-11-14T22:13:20.000Z combo1 128T - events"
        assert re.fullmatch(
            rb'relayRun="[0-9a-f]{16}" relaySeq="7" type="admin" router="combo1" node="n1" '
            rb'diff="change 7\n-old \\"a\\"\n\+new x+" number="7" site="berlin"\]',
            rest,
        )


def test_an_event_has_to_pass_both_the_filters_and_the_categories(tmp_path: Path, receiver: Receiver) -> None:
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
        wait_until(lambda: sorted(numbers(receiver)) == [1, 2, 3, 4, 5], 60, "five events")


@pytest.mark.parametrize("order", ["write-first", "index-first"])
def test_nothing_is_lost_whichever_process_is_killed_at_whichever_moment(
    tmp_path: Path, receiver: Receiver, order: str
) -> None:
    """The program is killed alone or after its child; an event that is delivered again has another identity."""
    chance = random.Random(order)
    with receiver.running(), Sshd() as sshd:
        router = Router(tmp_path, sshd, receiver.port)
        with_events(router, "--events", str(LAST), "--order", order, "--pause", "0.002", "--stay")
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
        wait_until(lambda: set(numbers(receiver)) >= set(range(1, LAST + 1)), 60, "every event")
        assert sorted(set(numbers(receiver))) == list(range(1, LAST + 1))


# --- The vendor's example of a Monitoring Agent ---


def relay(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RELAY, *map(str, arguments)], capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.parametrize(
    ("type_", "pattern", "params"),
    [("traffic", "traffic", b' type="traffic" '), ("trial", "tr*", b' event.type="trial"]')],
)
def test_the_vendors_monitoring_agent_configuration_delivers_the_events_that_pass_its_filter(
    tmp_path: Path, type_: str, pattern: str, params: bytes
) -> None:
    """Only the address and the pattern are changed; another program replaces the router's collector."""
    folder, more, index = tmp_path / "monitoring", tmp_path / "more.toml", tmp_path / "events.index"
    shutil.copytree(AGENT, folder)
    command = [sys.executable, "-I", "-S", str(COLLECTOR), "--events", "20", "--type", type_, "--index-file"]
    source = folder / "inputs" / "traffic-events.conf"
    source.write_text(source.read_text().replace('["traffic"]', f'["{pattern}"]'))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        syslog.settimeout(60)
        output = folder / "outputs" / "my-syslog.conf"
        output.write_text(output.read_text().replace("<ip>:514", f"127.0.0.1:{syslog.getsockname()[1]}"))
        more.write_text(
            f'[relay]\nhostname = "combo1"\nstate-directory = "{tmp_path}/state"\n'
            f'[[source]]\nname = "traffic-events"\ncommand = {json.dumps([*command, str(index)])}\n'
        )
        check = relay("-c", folder, "-c", more, "config", "check")
        done = relay("-c", folder, "-c", more, "run", "--drain", "--timeout", "60")
        assert (check.returncode, done.returncode) == (0, 0), check.stderr + done.stderr
        received: list[bytes] = []
        while len(received) < 20:
            received += [message for message in [syslog.recv(1 << 16)] if _NUMBER.search(message)]
    assert [match[1] for message in received if (match := _NUMBER.search(message))] == [b"%d" % n for n in range(1, 21)]
    assert all(params in message and b' router="combo1" ' in message for message in received)
    assert "not enable" not in check.stderr


@pytest.mark.parametrize("switch", ["enabled: true", "enabled: disabled", "sample-interval: 1"])
def test_an_agent_that_can_deliver_nothing_is_reported_by_check_and_by_run(tmp_path: Path, switch: str) -> None:
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "config.yaml").write_text(f"{switch}\ninputs: []\noutputs: []\n")
    check, run = relay("-c", folder, "config", "check"), relay("-c", folder, "run")
    assert (check.returncode, run.returncode) == (78, 78)
    assert f"nothing to forward: no source and no server in {folder}/config.yaml\n" in check.stderr
    assert "so nothing can be forwarded" in run.stderr
