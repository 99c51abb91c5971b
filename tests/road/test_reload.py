"""`relay run` reloads: changed parts are exchanged, the others keep their sessions, nothing is lost or repeated."""

import json
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from harness.openssh import Sshd
from harness.ports import LOOPBACK, free_port, listens
from harness.process import Process
from harness.receiver import Receiver
from harness.records import closed, generate, serials
from harness.relay import RELAY, SEED, Router, audit_events
from harness.rsyslog import Rsyslog
from harness.waiting import wait_until

from relay.program.status.control_socket import ask
from scripts.yardstick.judge import Ledger, judge
from scripts.yardstick.writing import Writing

RELOADS = 10
RECORDS = 20_000
RATE = 5_000
EVENTS = 26
"""The number of events in SEED."""
NOBODY = 65534


@pytest.fixture
def far_end(receiver: Receiver) -> Receiver:
    return receiver


@pytest.fixture(scope="module")
def other_sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture
def other(router: Router, other_sshd: Sshd, rsyslog: Rsyslog) -> "Other":
    return Other(router, other_sshd, rsyslog.port)


class Other:
    """A second server of a router, through a forwarding and an sshd of its own."""

    def __init__(self, router: Router, sshd: Sshd, remote_port: int) -> None:
        self.router = router
        self.port = free_port()
        self.forwarding = router.forwarding | {
            "local-port": self.port,
            "remote-port": remote_port,
            "server-port": sshd.port,
            "private-key": str(sshd.client_key),
            "known-hosts": str(sshd.known_hosts),
        }
        self.server: dict[str, object] = {"name": "other", "port": self.port}

    def write(self, **keys: object) -> None:
        """Write the router's configuration with it, and with these keys of its table."""
        self.server |= {key.replace("_", "-"): value for key, value in keys.items()}
        self.router.write_configuration()
        lines = []
        for name, table in (("port-forwarding", self.forwarding), ("remote-logging-server", self.server)):
            lines += [f"[[{name}]]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
        with self.router.configuration.open("a") as file:
            file.write("\n".join([*lines, ""]))


def hang_up(relay: Process) -> None:
    """Send SIGHUP, and wait for the result in the log."""
    before = relay.log.count("reload")
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: relay.log.count("reload") > before, 60, lambda: relay.log)


def reload(router: Router) -> list[str]:
    done = router.run("reload")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_under_load_each_record_arrives_once_and_an_unchanged_server_keeps_its_session(
    router: Router, sshd: Sshd, receiver: Receiver, other: Other, rsyslog: Rsyslog
) -> None:
    lines = closed(generate(RECORDS)).splitlines()
    router.audit_log.touch()
    other.write()
    with receiver.running(), router.start() as relay:
        relay.wait_for_log("ready: ")
        with Writing(router.audit_log, lines, rate=RATE) as writing:
            wait_until(lambda: writing.written.records > RATE // 2, 60, "records")
            for number in range(RELOADS):
                other.write(max_message_size=f"{16 + number}KiB")
                if number % 2:  # the source is exchanged as well
                    text = router.configuration.read_text()
                    router.configuration.write_text(text.replace("[[source]]", '[[source]]\nstart = "now"'))
                hang_up(relay)
            wait_until(lambda: writing.ended, 60, "all records are written")
        written = writing.written

        def collected() -> Ledger:
            found = Ledger()
            found.take(b"\n".join(rsyslog.messages()))
            return found

        wait_until(lambda: collected().records >= written.records, 60, lambda: relay.log)
        archive = receiver.archive
        wait_until(lambda: _archived(archive).records >= written.records, 60, receiver.status)
        assert relay.log.count("server other exchanged") == RELOADS
        assert relay.log.count("source audit exchanged") == RELOADS - 1
        relay.stop()
    for verdict in (judge(written, collected()), judge(written, _archived(archive))):
        assert (verdict.lost, verdict.duplicated, verdict.unknown) == (0, 0, 0), str(verdict)
    assert sshd.log.count("Accepted publickey") == 2, "one for the delivery and one for the local port"
    assert relay.complaints == []


def _archived(folder: Path) -> Ledger:
    return Ledger().take_files(folder.glob("[!.]*/*.log"))


def test_a_wrong_configuration_changes_nothing_and_its_mistakes_are_answered_and_logged(
    router: Router, receiver: Receiver
) -> None:
    router.audit_log.touch()
    with receiver.running(), router.start() as relay:
        relay.wait_for_log("ready: ")
        text = router.configuration.read_text()
        wrong = text.replace("[audit]", '[audit]\nretention = "long"').replace("[[source]]", "[[source]]\nnme = 1")
        router.configuration.write_text(wrong)
        done = subprocess.run(
            [*RELAY, "reload", "--state", str(router.state)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 78
        mistakes = done.stderr.splitlines()
        assert [line.rpartition(": ")[0].rpartition(" ")[2] for line in mistakes[:1]] == ["audit.retention"]
        assert "nme" in mistakes[1]
        assert all(str(router.configuration) in line for line in mistakes)
        assert "the reload is refused, the former configuration holds: 2 mistakes" in relay.log
        assert [line for line in mistakes if line not in relay.log] == []
        router.write_configuration(private_key="/nowhere/key")
        done = router.run("reload")
        assert done.returncode == 78
        assert "port-forwarding[1].private-key: private key /nowhere/key" in done.stderr
        router.write_configuration(private_key=str(router.sshd.client_key))
        text = router.configuration.read_text()
        router.configuration.write_text(text.replace(str(router.state), f"{router.state}-2"))
        done = router.run("reload", "--state", str(router.state))
        assert done.returncode == 78
        line = f'{router.configuration}:4: relay.state-directory: cannot change from "{router.state}" while relay runs'
        assert line in done.stderr
        assert line in relay.log
        done = router.run("reload", "--state", str(router.state), "--json")
        (mistake,) = json.loads(done.stdout)["mistakes"]
        assert (mistake["line"], mistake["key"]) == (4, "relay.state-directory")
        router.audit_log.write_bytes(SEED.read_bytes())
        receiver.wait_for_messages(EVENTS)


def test_each_kind_of_part_begins_is_exchanged_and_ends(
    router: Router, receiver: Receiver, other: Other, rsyslog: Rsyslog, other_sshd: Sshd
) -> None:
    seed = SEED.read_bytes()
    router.audit_log.write_bytes(seed)
    with receiver.running(), router.start() as relay:
        relay.wait_for_log("ready: ")
        receiver.wait_for_messages(EVENTS)
        other.write()
        assert reload(router) == ["server other begun", f"port-forwarding {LOOPBACK}:{other.port} begun"]
        assert len(rsyslog.wait_for_messages(EVENTS + 1)) == EVENTS + 1, "from the oldest on, with the run's opening"
        wait_until(lambda: listens(other.port), 60, relay.log)
        assert {each["name"] for each in router.live()["destinations"]} == {"other", f"{LOOPBACK}:{router.local_port}"}
        logins = other_sshd.log.count("Accepted publickey")
        with other_sshd.known_hosts.open("a") as known_hosts:
            known_hosts.write("# the same hosts\n")
        assert reload(router) == ["server other exchanged", f"port-forwarding {LOOPBACK}:{other.port} exchanged"]
        wait_until(lambda: other_sshd.log.count("Accepted publickey") == logins + 2, 60, lambda: relay.log)
        assert reload(router) == ["nothing changed"]
        router.audit["retention"] = "1d"
        second = router.folder / "second.log"
        second.touch()
        other.write()
        with router.configuration.open("a") as file:
            file.write(f'[[source]]\nname = "second"\npath = "{second}"\n')
        assert reload(router) == ["source second begun", "audit.retention changed"]
        second.write_bytes(closed(generate(30, first_serial=500_000)))
        expected = serials(second.read_bytes())
        wait_until(lambda: serials(b"\n".join(rsyslog.messages())) >= expected, 60, lambda: relay.log)
        arrived = sorted(audit_events(rsyslog.messages()))
        router.write_configuration()
        assert reload(router) == [
            "source second ended",
            "server other ended",
            f"port-forwarding {LOOPBACK}:{other.port} ended",
        ]
        assert not listens(other.port)
        assert [each["name"] for each in router.live()["sources"]] == ["audit"]
        assert sorted(audit_events(rsyslog.messages())) == arrived
        assert "other" in {each["name"] for each in router.status()["destinations"]}, "its cursor is kept"
        relay.stop()


def test_v_adds_sessions_and_proofs_and_without_it_there_is_a_line_for_the_start_and_one_for_the_stop(
    router: Router, receiver: Receiver
) -> None:
    router.audit_log.write_bytes(SEED.read_bytes())
    with receiver.running():
        with router.start() as relay:
            receiver.wait_for_messages(EVENTS)
            relay.stop()
            ready, stops = relay.log.splitlines()
        server = f"{LOOPBACK}:{router.local_port}"
        assert ready == (
            f"relay: ready: relay run {version('relay-syslog')}; configuration: {router.configuration}; "
            f"sources: audit ({router.audit_log}); servers: {server}; port-forwardings: {server}"
        )
        assert stops.startswith(f"relay: stops on SIGTERM; {server}: ")
        with Process([*RELAY, "-v", "-c", str(router.configuration), "run"], router.folder / "v.log") as relay:
            relay.wait_for_log(f"{server}: session opened")
            relay.wait_for_log("events proven so far (drained)")
            relay.stop()
            assert f"{server}: session ended" in relay.log


def test_a_program_at_a_local_port_keeps_its_connection_while_other_things_change(
    router: Router, receiver: Receiver, other: Other, rsyslog: Rsyslog
) -> None:
    other.write()
    with receiver.running(), router.start() as relay:
        wait_until(lambda: listens(other.port), 60, lambda: relay.log)
        with socket.create_connection((LOOPBACK, other.port)) as program:
            program.sendall(b"13 <13>before it")
            rsyslog.wait_for_messages(1)
            router.write_configuration()
            other.write(types=["alarm"])
            assert reload(router) == ["server other exchanged"]
            program.sendall(b"12 <13>after it")
            wait_until(lambda: b"<13>after it" in rsyslog.messages(), 60, lambda: relay.log)


def test_a_source_that_fails_to_begin_after_a_reload_is_retried_and_stops_nothing(
    router: Router, receiver: Receiver
) -> None:
    port = free_port()
    with receiver.running(), router.start() as relay:
        relay.wait_for_log("ready: ")
        with socket.create_server((LOOPBACK, port)):
            with router.configuration.open("a") as file:
                listen = f'listen = ["tcp://{LOOPBACK}:{port}"]'
                file.write(f'[[source]]\nname = "remote"\ntype = "auditd-remote"\n{listen}\n')
            assert reload(router) == ["source remote begun"]
            relay.wait_for_log("source remote cannot begin, and is retried")
            (remote,) = (each for each in router.live()["sources"] if each["name"] == "remote")
            assert "already in use" in remote["error"]
            router.audit_log.write_bytes(SEED.read_bytes())
            receiver.wait_for_messages(EVENTS)
        wait_until(lambda: listens(port, pid=relay.pid), 60, lambda: relay.log)


def test_without_a_running_relay_reload_fails_and_names_the_cause(router: Router) -> None:
    done = router.run("reload")
    assert done.returncode == 69
    assert done.stderr == (
        f"relay: {router.state}: no relay runs on this state directory; "
        "start relay, or name its state directory with --state\n"
    )


def test_a_user_without_rights_learns_as_which_user_to_reload(tmp_path: Path) -> None:
    """Without its capability to override modes, root is a user without rights."""
    folder = tmp_path / "state"
    folder.mkdir()
    command = [*RELAY, "reload", "--state", str(folder)]
    owner = os.getuid()
    if owner == 0:
        owner, command = NOBODY, ["setpriv", "--inh-caps=-all", "--bounding-set=-all", *command]
        os.chown(folder, owner, -1)
    folder.chmod(0o700 if owner == NOBODY else 0)
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    folder.chmod(0o700)
    assert refused.returncode == 77
    remedy = f'run this command as root or as the user "{pwd.getpwuid(owner).pw_name}"'
    assert refused.stderr == f"relay: cannot read {folder}: permission denied; {remedy}\n"


def test_a_reload_that_frees_space_lets_a_waiting_source_end(router: Router, sshd: Sshd) -> None:
    """The spool is full because no server is up; the source cannot end before its last events are stored."""
    router.audit |= {"disk-full-action": "halt", "halt-command": ["true"]}
    router.write_configuration()
    small = router.configuration.read_text() + '[spool]\nsegment-size = "1MiB"\nmax-size = "4MiB"\n'
    router.configuration.write_text(small)
    router.audit_log.write_bytes(closed(generate(20_000)))
    with router.start() as relay:
        relay.wait_for_log("the spool cannot be written")
        changed = small.replace("4MiB", "64MiB").replace("[[source]]", '[[source]]\nstart = "now"')
        router.configuration.write_text(changed)
        assert reload(router) == ["source audit exchanged", "spool.max-size changed"]
        wait_until(lambda: _lag(router) == 0, 60, lambda: relay.log)
        assert router.live()["intake_error"] == ""
    del sshd


def _lag(router: Router) -> int:
    """The octets that its first source has not read; -1 while nobody knows."""
    live = ask(str(router.state))
    return live.sources[0].lag if live is not None and live.sources else -1
