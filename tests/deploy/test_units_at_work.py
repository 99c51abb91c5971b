"""The units of deploy/ under the real systemd. The halting unit has a stub for its command (see the harness)."""

import functools
import json
import re
import time

import pytest
from deploy.conftest import RELAY, Router, enabling
from harness.waiting import wait_until
from source.log_writing import START_MS, record, records

from relay.program.watch import all_users, halt_request
from relay.values.alarm import AUDITD_DOWN

HALT = "relay-halt.service"
AUDIT_RIGHTS = (1 << 29) | (1 << 30)  # capabilities(7): CAP_AUDIT_WRITE, CAP_AUDIT_CONTROL
REBOOT = 1 << 22  # CAP_SYS_BOOT
WITHOUT_RIGHTS = "[Service]\nCapabilityBoundingSet=\nAmbientCapabilities=\nPrivateUsers=yes\n"
NAMES = list(all_users.TEXTS)
SINGLY = 8
SOON = "[Service]\nRestartSec=100ms\n"
TERMINAL = """
import os, pty
ours, theirs = pty.openpty()
os.chown(os.ttyname(theirs), 101, 101)
os.chmod(os.ttyname(theirs), 0o600)
with open("/run/terminal", "wb", buffering=0) as copy:
    while True: copy.write(os.read(ours, 4096))
"""
"""Another user's terminal, as after `mesg n`; what it shows is in /run/terminal."""
IN_TIME = "[Service]\nTimeoutStopSec=30\n"
"""After this time systemd would kill it, and report that as the result."""

# Each waits until no other test uses the machine's audit (`kernel_auditd.LOCK`), which may take a minute.
pytestmark = pytest.mark.timeout(300)


def process_status(router: Router, pid: str) -> dict[str, str]:
    """The fields of /proc/PID/status (proc(5))."""
    lines = router.run("cat", f"/proc/{pid}/status").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def auditd_alarms(router: Router) -> list[str]:
    """The alarms of the running relay about an auditd that does not work."""
    live = json.loads(router.run("relay", "status", "--json"))["live"]
    return [each["text"] for each in live["alarms"] if each["name"] == AUDITD_DOWN]


def was_said_last(router: Router, text: str) -> bool:
    return router.said_to_all()[-1:] == [text]


def written_now() -> bytes:
    """A record that is newer than all before."""
    return record(1, at_ms=time.time_ns() // 10**6 - START_MS)


def test_within_the_units_limits_relay_reads_stores_delivers_and_answers(router: Router) -> None:
    router.start_relay()
    status = process_status(router, router.property_of(RELAY, "MainPID"))
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == AUDIT_RIGHTS
    router.write_records(records(1, 10))
    wait_until(lambda: router.has("/run/relay/audit"), 60, router.journal)
    router.run("relay", "dispatch", stdin=record(11).decode())
    router.wait_for_audit_events(11)
    wait_until(lambda: any(b"from the child" in each for each in router.archived()), 60, router.journal)
    assert "running, pid" in router.run("relay", "status")
    of_the_child = process_status(router, router.run("pgrep", "-u", "relay", "-x", "sleep").strip())
    assert {int(of_the_child[key], 16) for key in ("CapPrm", "CapEff", "CapAmb")} == {0}
    assert (of_the_child["NoNewPrivs"], of_the_child["NSsid"] == status["NSsid"]) == ("1", False)
    assert router.run("stat", "-c", "%U %a", "/var/lib/relay").split() == ["relay", "700"]


def test_a_killed_relay_restarts_and_continues_a_reloaded_one_keeps_running_and_a_stopped_one_exits_with_0(
    router: Router,
) -> None:
    router.start_relay()
    assert router.property_of(RELAY, "RestartUSec") == "5s"
    router.add("relay.service.d/soon.conf", SOON)
    router.write_records(records(1, 10))
    router.wait_for_audit_events(10)
    router.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", RELAY)
    router.write_records(records(11, 20))
    router.wait_until_property(RELAY, "NRestarts", "1")
    events = router.wait_for_audit_events(20)
    serials = [int(number) for event in events for number in re.findall(rb' serial="(\d+)"', event)]
    assert sorted(serials) == list(range(1, 21))
    pid = router.property_of(RELAY, "MainPID")
    router.run("systemctl", "reload", RELAY)
    assert "<5> reloaded: nothing changed" in router.journal(RELAY)
    assert "<3> nothing changed" not in router.journal(RELAY), "what `relay reload` prints is not an error"
    good = router.configuration()
    router.write_configuration(good + "\n[spool]\nmax-siz = 1\n")
    assert router.ask("systemctl", "reload", RELAY).returncode != 0
    assert "max-siz" in router.journal(RELAY)
    router.write_configuration(good)
    router.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", RELAY)
    wait_until(lambda: router.journal(RELAY).count("reloaded: nothing changed") == 2, 60, router.journal)
    assert [router.property_of(RELAY, key) for key in ("ActiveState", "MainPID")] == ["active", pid]
    router.add("relay.service.d/stop.conf", IN_TIME)
    router.run("systemctl", "stop", RELAY)
    ended = [router.property_of(RELAY, key) for key in ("ActiveState", "Result", "ExecMainStatus")]
    assert ended == ["inactive", "success", "0"]


def test_with_a_wrong_configuration_the_start_fails_with_an_error_in_the_journal_and_is_not_retried(
    router: Router,
) -> None:
    router.set_up()
    router.write_configuration("[spool]\nmax-siz = 1\n")
    started = router.ask(*enabling(RELAY))
    assert started.returncode == 1
    assert "relay.service failed" in started.stderr
    assert router.property_of(RELAY, "ActiveState") == "failed"
    assert (router.property_of(RELAY, "ExecMainStatus"), router.property_of(RELAY, "NRestarts")) == ("78", "0")
    (line,) = [line for line in router.journal(RELAY).splitlines() if "max-siz" in line]
    assert "<3> relay:" in line


def test_all_users_get_a_message_when_auditds_unit_fails_and_when_it_recovers(router: Router) -> None:
    """Without its two rights relay can check only the unit."""
    router.set_up()
    router.add("relay.service.d/rights.conf", WITHOUT_RIGHTS)
    router.run("systemctl", "kill", "--signal=KILL", "auditd.service")
    router.wait_until_property("auditd.service", "ActiveState", "failed")
    router.enable(RELAY)
    told_at_login = all_users.TEXTS[AUDITD_DOWN] + "\n"
    wait_until(lambda: router.ask("cat", all_users.LOGIN_MESSAGE).stdout == told_at_login, 60, router.journal)
    assert auditd_alarms(router) == ["auditd.service has failed; `systemctl status auditd` shows why"]
    router.run("systemctl", "start", "auditd.service")

    def is_over() -> bool:
        router.write_records(written_now())
        return not router.has(all_users.LOGIN_MESSAGE)

    wait_until(is_over, 60, router.journal)
    texts = [all_users.TEXTS[AUDITD_DOWN], all_users.TEXTS[AUDITD_DOWN + all_users.CLEARED]]
    wait_until(lambda: router.said_to_all() == texts, 60, router.journal)
    assert auditd_alarms(router) == []


def test_when_systemd_cannot_be_queried_relay_reports_it_and_raises_no_alarm(router: Router) -> None:
    """Users other than root query systemd through D-Bus."""
    router.set_up()
    router.add("relay.service.d/rights.conf", WITHOUT_RIGHTS)
    router.run("systemctl", "stop", "dbus.socket", "dbus.service")
    router.enable(RELAY)
    wait_until(lambda: "without its part unit: systemctl: cannot ask" in router.journal(RELAY), 60, router.journal)
    assert auditd_alarms(router) == []


def assert_that_nothing_can_power_off(router: Router) -> None:
    assert int(process_status(router, "1")["CapBnd"], 16) & REBOOT == 0
    assert router.property_of("poweroff.target", "LoadState") == "not-found"
    command = router.property_of(HALT, "ExecStart")
    assert "argv[]=/usr/bin/systemctl start would-halt.service ;" in command
    assert "poweroff" not in command


def test_root_halts_the_machine_on_relays_request_unless_no_halt_exists(router: Router) -> None:
    assert_that_nothing_can_power_off(router)
    router.enable("relay-halt.path")  # before the folder that it watches exists
    router.start_relay()
    router.request(halt_request.REQUEST)
    wait_until(lambda: router.has("/run/would-halt"), 60, router.journal)
    router.wait_until_property(HALT, "ActiveState", "inactive")
    assert not router.has(halt_request.REQUEST)
    router.run("rm", "/run/would-halt")
    router.run("touch", halt_request.NO_HALT)
    router.request(halt_request.REQUEST)
    router.wait_until_property(HALT, "Result", "exec-condition")
    assert not router.has(halt_request.REQUEST)
    assert not router.has("/run/would-halt")
    router.wait_until_property("relay-halt.path", "SubState", "waiting")


def test_a_message_reaches_the_terminal_of_a_user_who_refuses_messages(router: Router) -> None:
    (router.root / "srv/terminal.py").write_text(TERMINAL)
    router.add("terminal.service", "[Service]\nExecStart=/usr/local/bin/python-of-relay /srv/terminal.py\n")
    router.start_relay()
    router.run("systemctl", "start", "terminal.service")
    wait_until(lambda: router.has("/run/terminal"), 60, router.journal)
    assert router.run("stat", "-c", "%U %a", "/dev/pts/0").split() == ["messagebus", "600"]
    router.request(f"{all_users.REQUEST}.{AUDITD_DOWN}")
    wait_until(lambda: all_users.TEXTS[AUDITD_DOWN] in router.run("cat", "/run/terminal"), 60, router.journal)


def test_many_messages_in_quick_succession_are_all_sent(router: Router) -> None:
    """With systemd's default limit, the sixth within ten seconds would be the last for good."""
    router.start_relay()
    for name in NAMES[:SINGLY]:
        router.request(f"{all_users.REQUEST}.{name}")
        wait_until(functools.partial(was_said_last, router, all_users.TEXTS[name]), 60, router.journal)
    for name in NAMES[SINGLY:]:
        router.run("touch", f"{all_users.REQUEST}.{name}", user="relay")
    wait_until(lambda: len(router.said_to_all()) == len(NAMES), 60, router.journal)
    assert sorted(router.said_to_all()) == sorted(all_users.TEXTS.values())
    router.wait_until_property("relay-message.path", "SubState", "waiting")
