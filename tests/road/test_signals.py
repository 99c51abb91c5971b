"""No signal ends relay by surprise: SIGTERM and SIGINT stop, SIGHUP reloads, SIGUSR1 logs the status."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness.receiver import Receiver
from harness.relay import SEED, Router, nothing_waits
from harness.waiting import wait_until

from relay.system.signals import FAULTS

HARMLESS = sorted(
    {
        *(signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM),
        *(signal.SIGPROF, signal.SIGIO, signal.SIGPWR, signal.SIGSTKFLT, signal.SIGXCPU, signal.SIGXFSZ),
        *(signal.SIGPIPE, signal.SIGABRT, signal.SIGRTMIN, signal.SIGRTMAX),
    }
)
EVENTS = 26
"""The number of events in SEED."""


@pytest.fixture
def far_end(receiver: Receiver) -> Receiver:
    return receiver


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: proc(5), SigCgt."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def test_only_sigterm_and_sigint_end_run_and_receive_and_sigusr1_logs_the_status(
    router: Router, receiver: Receiver
) -> None:
    router.audit_log.touch()
    with receiver.running() as far_end, router.start() as relay:
        for process in (relay, far_end):
            process.wait_for_log("ready: ")
            for number in HARMLESS:
                os.kill(process.pid, number)
            process.wait_for_log("reloaded: nothing changed")
        router.audit_log.write_bytes(SEED.read_bytes())
        receiver.wait_for_messages(EVENTS)
        wait_until(lambda: nothing_waits(router.state), 60, lambda: relay.log)
        before = len(relay.log.splitlines())
        os.kill(relay.pid, signal.SIGUSR1)
        wait_until(lambda: len(relay.log.splitlines()) == before + 3, 60, lambda: relay.log)
        spool, *others = relay.log.splitlines()[before:]
        assert re.fullmatch(r"relay: status: spool: .+ of 2\.1 GB used, 27 events accepted since the start", spool)
        assert others == [
            "relay: status: source audit: 0 bytes to read",
            f"relay: status: destination 127.0.0.1:{router.local_port}: delivering, nothing waits",
        ]
        for process, stop in ((relay, signal.SIGTERM), (far_end, signal.SIGINT)):
            os.kill(process.pid, stop)
            wait_until(lambda: not process.running, 60, lambda: process.log)  # noqa: B023  it is called at once
            assert process.exit_code == 0, process.log
            assert process.log.splitlines()[-1].startswith(f"relay: stops on {stop.name}; ")


def test_a_hangup_during_the_start_reloads_when_it_is_ready_and_one_during_the_stop_does_nothing(
    router: Router, receiver: Receiver
) -> None:
    with receiver.running(), router.start() as relay:
        wait_until(lambda: handles(relay.pid, signal.SIGHUP), 60, lambda: relay.log)
        assert relay.log == "", "it is still starting"
        os.kill(relay.pid, signal.SIGHUP)
        relay.wait_for_log("reloaded: nothing changed")
        assert relay.log.index("ready: ") < relay.log.index("reloaded: ")
        os.kill(relay.pid, signal.SIGTERM)
        while relay.running:
            try:
                os.kill(relay.pid, signal.SIGHUP)
            except ProcessLookupError:
                break
        assert relay.exit_code == 0, relay.log
        assert relay.log.count("reloaded: ") == 1


def test_a_hangup_does_not_end_a_drain(router: Router, receiver: Receiver) -> None:
    router.audit_log.write_bytes(SEED.read_bytes())
    with receiver.running():
        command = [sys.executable, "-m", "relay", "-c", str(router.configuration), "run", "--drain", "--timeout", "60"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as drain:
            wait_until(lambda: handles(drain.pid, signal.SIGHUP) or drain.poll() is not None, 60, "handlers")
            while drain.poll() is None:
                drain.send_signal(signal.SIGHUP)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    drain.wait(0.01)
            assert drain.stderr is not None
            assert (drain.returncode, drain.stderr.read()) == (0, "")
        assert len(receiver.wait_for_messages(EVENTS)) == EVENTS


def test_children_that_are_executed_get_the_default_of_every_signal() -> None:
    program = (
        "import signal, subprocess, sys; from relay.system import signals; signals.hold(); "
        "sys.exit(subprocess.run(['sh', '-c', 'kill -HUP $$; exit 3']).returncode == -signal.SIGHUP)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 1


def test_a_fault_of_the_processor_still_ends_the_program() -> None:
    """A handler that returned would repeat the instruction for ever."""
    assert {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL} <= FAULTS
    program = (
        "import os, signal; from relay.system import signals; signals.hold(); "
        "os.kill(os.getpid(), signal.SIGUSR2); os.kill(os.getpid(), signal.SIGSEGV)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == -signal.SIGSEGV
