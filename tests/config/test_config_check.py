"""The findings of `relay config check` on a machine with real files, keys and modes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import paramiko
import pytest
from harness.rights import WITHOUT_ROOTS_RIGHTS

from relay.config.check.check import CheckFindings, check
from relay.config.configuration import read_configuration
from relay.config.intended_program import Program, tables_without_effect
from relay.values.configuration.settings import RemoteLoggingServer

CONFIGURATION = """\
[relay]
state-directory = "{folder}/state"
[[source]]
name = "audit"
path = "{folder}/audit.log"
[[port-forwarding]]
server-address = "172.18.4.99"
private-key = "{folder}/id"
known-hosts = "{folder}/known_hosts"
[[remote-logging-server]]
"""


class Machine(NamedTuple):
    """A folder in which CONFIGURATION has no findings, until a test breaks something."""

    folder: Path

    def configuration(self, text: str) -> str:
        file = self.folder / "relay.toml"
        file.write_text(text.replace("{folder}", str(self.folder)))
        return str(file)

    def findings(self, text: str = CONFIGURATION) -> CheckFindings:
        return check(read_configuration([self.configuration(text)]))

    def mistake(self, text: str = CONFIGURATION) -> str:
        (mistake,) = self.findings(text).mistakes
        return str(mistake).removeprefix(f"{self.folder}/")

    def warning(self, text: str) -> str:
        findings = self.findings(text)
        assert findings.mistakes == ()
        (warning,) = findings.warnings
        return str(warning).removeprefix(f"{self.folder}/")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "id"))
    (tmp_path / "id").chmod(0o600)
    (tmp_path / "known_hosts").write_text(f"172.18.4.99 {key.get_name()} {key.get_base64()}\n")
    (tmp_path / "authorized_keys").write_text("")
    (tmp_path / "audit.log").write_text("")
    return Machine(tmp_path)


def test_a_machine_that_has_everything_has_no_findings(machine: Machine) -> None:
    assert machine.findings() == CheckFindings((), ())


LOG_SERVER = """\
[relay]
state-directory = "{folder}/state"
[receiver]
archive = "{folder}/archive"
[receiver.ssh]
listen = "127.0.0.1:2222"
host-key = "{folder}/id"
authorized-keys = "{folder}/authorized_keys"
"""


@pytest.mark.parametrize(
    ("name", "mode", "text", "key"),
    [
        ("relay.toml", 0o646, CONFIGURATION, ""),
        ("state", 0o703, CONFIGURATION, "relay.state-directory"),
        ("known_hosts", 0o646, CONFIGURATION, "port-forwarding[1].known-hosts"),
        ("archive", 0o1777, LOG_SERVER, "receiver.archive"),
        ("authorized_keys", 0o646, LOG_SERVER, "receiver.ssh.authorized-keys"),
    ],
)
def test_a_file_or_folder_that_every_user_can_change_is_a_mistake_with_its_remedy(
    machine: Machine, name: str, mode: int, text: str, key: str
) -> None:
    path = machine.folder / name
    if name in {"state", "archive"}:
        path.mkdir()
    machine.configuration(text)
    assert machine.findings(text).mistakes == ()
    path.chmod(mode)
    mistake = machine.mistake(text)
    assert f"{key}: " in mistake
    assert f"(mode {mode:04o})" in mistake or f"its mode {mode:04o} lets others change it" in mistake
    assert "`chmod " in mistake


@pytest.mark.parametrize(("text", "count"), [(CONFIGURATION, 4), (LOG_SERVER, 5)])
def test_a_folder_that_every_user_can_change_is_reported_for_each_file_in_it(
    machine: Machine, text: str, count: int
) -> None:
    """A private key too: nobody can read it, and everybody could put another one in its place."""
    machine.folder.chmod(0o777)
    mistakes = [str(each) for each in machine.findings(text).mistakes]
    assert len(mistakes) == count
    assert all(f"the folder {machine.folder} (mode 0777); `chmod o-w {machine.folder}`" in each for each in mistakes)


ITS_SOURCE = '[[source]]\nname = "events"\ntype = "event-collector"\n'


@pytest.mark.parametrize("where", ["relay.alarm-command", "audit.halt-command", "source[1].command"])
def test_a_program_that_every_user_can_change_is_a_mistake(machine: Machine, where: str) -> None:
    program = machine.folder / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o757)
    command = f'command = ["{program}", "--index-file={machine.folder}/index"]\n'
    text = {
        "relay.alarm-command": CONFIGURATION.replace("[[source]]", f"alarm-{command}[[source]]", 1),
        "audit.halt-command": CONFIGURATION.replace("[[source]]", f"[audit]\nhalt-{command}[[source]]", 1),
        "source[1].command": CONFIGURATION.replace("[[source]]", f"{ITS_SOURCE}{command}[[source]]", 1),
    }[where]
    mistake = machine.mistake(text)
    assert f"{where}: every user can write to {program} (mode 0757); `chmod o-w {program}`" in mistake


EVENTS = '[[source]]\nname = "events"\ntype = "event-collector"\ncommand = ["/bin/true", "--index-file=/srv/x"]\n'
"""A source of all events that a router's event collector writes."""
SECOND_SERVER = '[[remote-logging-server]]\naddress = "127.0.0.1"\nname = "second"\ntypes = ["audit"]\n'
FACILITIES = (
    "audit records have \"audit\", and a router's events have their source's `facility`, unless their own field "
    "facility_code names another"
)


@pytest.mark.parametrize(
    ("choice", "warning"),
    [
        (
            'facilities = ["audit", "local0"]',
            f'facilities: no event routed to this server has facility "local0": {FACILITIES}',
        ),
        ('facilities = ["user"]', f'facilities: no event routed to this server has facility "user": {FACILITIES}'),
        (
            'severity = "err"',
            (
                'severity: no audit record has severity "err" or above: they have "warning" where something failed '
                'or was denied, and else "info"'
            ),
        ),
    ],
)
def test_a_filter_that_no_event_matches_is_a_warning(machine: Machine, choice: str, warning: str) -> None:
    assert machine.warning(CONFIGURATION + choice) == f"relay.toml:11: remote-logging-server[1].{warning}"


@pytest.mark.parametrize(
    "choice",
    [
        'facilities = ["audit"]\nseverity = "warning"',
        'severity = "info"',
        f'severity = "err"\ntypes = ["alarm"]\n{SECOND_SERVER}{EVENTS}',
    ],
)
def test_a_filter_that_an_event_can_match_is_not_a_warning(machine: Machine, choice: str) -> None:
    assert machine.findings(CONFIGURATION + choice) == CheckFindings((), ())


def test_a_facility_that_no_event_of_the_servers_types_has_is_a_warning(machine: Machine) -> None:
    text = f'{CONFIGURATION}facilities = ["audit"]\ntypes = ["admin"]\n{SECOND_SERVER}{EVENTS}'
    warning = f'facilities: no event routed to this server has facility "audit": {FACILITIES}'
    assert machine.warning(text) == f"relay.toml:11: remote-logging-server[1].{warning}"


@pytest.mark.parametrize("facility", ["user", "local0"])
def test_a_routers_events_have_the_facility_of_their_source(machine: Machine, facility: str) -> None:
    events = '[[source]]\nname = "events"\ntype = "event-collector"\ncommand = ["/bin/true"]\n'
    text = f'{CONFIGURATION}facilities = ["{facility}", "daemon"]\n{events}facility = "{facility}"\n'
    assert machine.warning(text).endswith(f'no event routed to this server has facility "daemon": {FACILITIES}')


def test_a_private_key_that_others_can_read_is_a_mistake_with_its_line(machine: Machine) -> None:
    (machine.folder / "id").chmod(0o644)
    mistake = machine.mistake()
    assert mistake.startswith("relay.toml:8: port-forwarding[1].private-key: ")
    assert "0644" in mistake
    assert f"chmod 600 {machine.folder}/id" in mistake


def test_a_private_key_that_is_missing_or_is_not_a_key_is_a_mistake(machine: Machine) -> None:
    (machine.folder / "id").write_text("ssh-ed25519 AAAA a public key\n")
    assert "contains no readable private key" in machine.mistake()
    (machine.folder / "id").unlink()
    assert "there is no such file" in machine.mistake()


def test_a_server_whose_host_key_is_not_known_is_a_mistake(machine: Machine) -> None:
    other_port = CONFIGURATION.replace('"172.18.4.99"', '"172.18.4.99"\nserver-port = 2222')
    mistake = machine.mistake(other_port)
    assert "known_hosts has no host key for 172.18.4.99:2222" in mistake
    assert "line 1 names 172.18.4.99 without a port, which means port 22 alone" in mistake
    assert mistake.endswith("`relay key trust 172.18.4.99:2222`")
    (machine.folder / "known_hosts").unlink()
    remedy = "`relay key trust 172.18.4.99:22` creates it"
    assert machine.mistake().endswith(f"known-hosts: {machine.folder}/known_hosts does not exist; {remedy}")


def test_a_broken_line_of_known_hosts_is_only_a_warning(machine: Machine) -> None:
    with (machine.folder / "known_hosts").open("a") as file:
        file.write("172.18.4.100 ssh-ed25519 not-base64\n")
    assert "known_hosts line 2: the key is not base64" in machine.warning(CONFIGURATION)


def test_lines_of_known_hosts_for_openssh_alone_are_not_reported(machine: Machine) -> None:
    with (machine.folder / "known_hosts").open("a") as file:
        file.write("@cert-authority * ssh-ed25519 AAAA\n@revoked * ssh-dss AAAA\nlog.example sk-ssh-ed25519 AAAA\n")
    assert machine.findings() == CheckFindings((), ())


def test_an_audit_log_that_does_not_exist_yet_is_a_warning(machine: Machine) -> None:
    (machine.folder / "audit.log").unlink()
    sentence = f"{machine.folder}/audit.log does not exist yet; relay waits for it"
    assert machine.warning(CONFIGURATION) == f"relay.toml:5: source[1].path: {sentence}"


def test_an_audit_log_that_this_user_cannot_read_is_a_mistake(machine: Machine) -> None:
    """Root can read everything, so the check runs in a child without root's rights."""
    (machine.folder / "audit.log").chmod(0)
    run = "from relay.cli.commands import config_group; config_group()"
    child = subprocess.run(
        [*WITHOUT_ROOTS_RIGHTS, sys.executable, "-c", run, "check", "-c", machine.configuration(CONFIGURATION)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 78, child.stderr
    assert "source[1].path:" in child.stderr
    assert "this user is not allowed to read" in child.stderr


def test_a_state_directory_that_is_a_file_is_a_mistake(machine: Machine) -> None:
    (machine.folder / "state").write_text("")
    assert machine.mistake() == f"relay.toml:2: relay.state-directory: {machine.folder}/state is not a folder"


def test_the_check_reads_the_keys_of_the_receivers_ssh_endpoint_too(machine: Machine) -> None:
    endpoint = """\
[receiver.ssh]
listen = "127.0.0.1:2222"
host-key = "{folder}/id"
authorized-keys = "{folder}/authorized_keys"
"""
    assert machine.findings(endpoint) == CheckFindings((), ())
    (machine.folder / "id").chmod(0o640)
    assert "0640" in machine.mistake(endpoint)
    (machine.folder / "id").chmod(0o600)
    (machine.folder / "authorized_keys").unlink()
    assert "authorized_keys does not exist" in machine.mistake(endpoint)


def test_a_source_without_a_server_is_a_mistake(machine: Machine) -> None:
    text = '[[source]]\nname = "audit"\npath = "{folder}/audit.log"'
    sentence = "there is no [[remote-logging-server]] to deliver its events to; add one"
    assert machine.mistake(text) == f"relay.toml:1: source: {sentence}"


def test_a_server_without_a_port_forwarding_is_a_warning(machine: Machine) -> None:
    text = CONFIGURATION.replace("[[remote-logging-server]]", "[[remote-logging-server]]\nport = 9")
    sentence = "relay.toml:10: remote-logging-server[1]: no [[port-forwarding]] has this address and port"
    assert machine.warning(text).startswith(sentence)


def test_a_server_whose_types_are_all_disabled_is_a_warning(machine: Machine) -> None:
    keys = '[[remote-logging-server]]\ntypes = ["traffic"]'
    text = CONFIGURATION.replace("[[remote-logging-server]]", keys) + SECOND_SERVER + EVENTS
    sentence = "it takes only traffic events, and [audit] does not enable traffic events"
    assert machine.warning(text) == f"relay.toml:11: remote-logging-server[1].types: {sentence}"
    assert machine.findings(text + "[audit]\ntraffic = { enabled = true }\n") == CheckFindings((), ())


def test_unknown_types_do_not_hide_that_the_others_are_disabled(machine: Machine) -> None:
    keys = '[[remote-logging-server]]\ntypes = ["traffic", "log"]'
    text = CONFIGURATION.replace("[[remote-logging-server]]", keys) + SECOND_SERVER + EVENTS
    sentence = "it takes only traffic events and events of unknown types, and [audit] does not enable traffic events"
    assert machine.warning(text) == f"relay.toml:11: remote-logging-server[1].types: {sentence}"


def test_a_server_without_a_source_is_a_mistake(machine: Machine) -> None:
    text = CONFIGURATION.replace('[[source]]\nname = "audit"\npath = "{folder}/audit.log"\n', "")
    sentence = "there is no [[source]] whose events relay could deliver to it; add one"
    assert machine.mistake(text) == f"relay.toml:7: remote-logging-server: {sentence}"


def test_a_port_forwarding_for_other_programs_alone_is_legal(machine: Machine) -> None:
    text = CONFIGURATION.partition("[[source]]")[0] + "[[port-forwarding]]" + CONFIGURATION.partition("forwarding]]")[2]
    assert machine.findings(text.replace("[[remote-logging-server]]\n", "")) == CheckFindings((), ())


# --- Event types that never arrive ---------------------------------------------------------------------------

COLLECTOR = (
    'add a [[source]] with name = "events", type = "event-collector" and command = ["/usr/bin/eventCollector128t", '
    '"--index-file", "/var/lib/relay/events.index"]'
)


@pytest.mark.parametrize(
    ("category", "type_"),
    [("traffic", "traffic"), ("administration", "admin"), ("system", "system"), ("security", "security")],
)
def test_enabled_events_that_no_source_delivers_are_a_warning_with_the_source_to_add(
    machine: Machine, category: str, type_: str
) -> None:
    text = f"{CONFIGURATION}[audit]\n{category}.enabled = true\n"
    sentence = f"{type_} events are enabled, and no source delivers them; {COLLECTOR}"
    assert machine.warning(text) == f"relay.toml:12: audit.{category}.enabled: {sentence}"
    assert machine.findings(text + EVENTS) == CheckFindings((), ())


@pytest.mark.parametrize("filters", ['tagpass = { type = ["alarm"] }', 'tagdrop = { type = ["tr*"] }'])
def test_the_warning_names_the_source_whose_filters_drop_enabled_events(machine: Machine, filters: str) -> None:
    warning = machine.warning(f"{CONFIGURATION}[audit]\ntraffic.enabled = true\n{EVENTS}{filters}\n")
    assert warning.endswith('let them pass the filters (tagpass, tagdrop) of source "events"')


def test_a_configured_tag_type_makes_every_type_possible(machine: Machine) -> None:
    filters = 'tagpass = { node = ["a"] }\ntags = { type = "traffic" }\n'
    assert machine.findings(f"{CONFIGURATION}[audit]\ntraffic.enabled = true\n{EVENTS}{filters}") == CheckFindings(
        (), ()
    )


def test_history_of_events_that_are_not_enabled_is_a_warning(machine: Machine) -> None:
    sentence = "has no effect: traffic events are not enabled; set `enabled = true` too"
    text = f"{CONFIGURATION}[audit]\ntraffic = {{ persist = true }}\n"
    assert machine.warning(text) == f"relay.toml:12: audit.traffic.persist: {sentence}"
    assert machine.findings(f"{CONFIGURATION}[audit]\nsystem = {{ enabled = false }}\n") == CheckFindings((), ())


def test_types_of_a_server_that_no_source_delivers_are_a_warning(machine: Machine) -> None:
    text = CONFIGURATION + 'types = ["audit", "alarm", "admin", "log"]\n'
    warning = f"relay.toml:11: remote-logging-server[1].types: no source delivers alarm and admin events; {COLLECTOR}"
    assert machine.warning(text) == warning
    assert machine.findings(text + EVENTS) == CheckFindings((), ())


def test_the_default_types_written_out_are_not_a_warning(machine: Machine) -> None:
    types = RemoteLoggingServer().types
    assert machine.findings(f"{CONFIGURATION}types = {json.dumps(types)}\n") == CheckFindings((), ())


def test_a_source_whose_events_no_server_takes_is_a_warning(machine: Machine) -> None:
    text = f'{CONFIGURATION}types = ["alarm"]\n{EVENTS}tagpass = {{ type = ["alarm", "admin"] }}\n'
    sentence = 'no server takes its events (audit); add "audit" to the `types` of a server'
    assert machine.warning(text) == f"relay.toml:3: source[1]: {sentence}"


def test_a_source_whose_events_are_all_disabled_is_a_warning(machine: Machine) -> None:
    text = f'{CONFIGURATION}{EVENTS}tagpass = {{ type = ["traffic"] }}\n'
    sentence = "its events (traffic) are not enabled in [audit]; set `enabled = true` in audit.traffic"
    assert machine.warning(text) == f"relay.toml:11: source[2]: {sentence}"


# --- Which program it is for ---------------------------------------------------------------------------------

RECEIVER = '[receiver]\nlisten = ["tcp://127.0.0.1:9999"]\n'


def test_a_receivers_configuration_needs_no_source(machine: Machine) -> None:
    assert machine.findings(RECEIVER) == CheckFindings((), ())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('age = "1d"', "retention.age: days are compressed after 2d (compress-after), which is not shorter"),
        ('ledgers = "400d"', "retention.ledgers: has no effect without age or size"),
        ('age = "400d"\nledgers = "30d"', "retention.ledgers: is shorter than age: a day keeps its ledger until"),
        ('age = "1d"\ncompress-after = ""', ""),
        ('size = "10GB"\nledgers = "30d"', ""),
    ],
)
def test_retention_that_is_hardly_meant_is_a_warning(machine: Machine, keys: str, words: str) -> None:
    warnings = [str(each) for each in machine.findings(f"{RECEIVER}[receiver.retention]\n{keys}\n").warnings]
    assert words in "".join(warnings)
    assert bool(warnings) == bool(words)


SERVER = '[[remote-logging-server]]\naddress = "10.0.0.1"\nport = 514\n'


def test_a_receiver_hands_on_to_a_server_and_its_connection_is_checked(machine: Machine) -> None:
    assert "relay.toml:3: remote-logging-server[1]: no [[port-forwarding]] has" in machine.warning(RECEIVER + SERVER)
    key = f'{RECEIVER}{SERVER}transport = "tls"\nca = "{machine.folder}/none.pem"\n'
    assert "none.pem" in machine.mistake(key)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        (f"{RECEIVER}{SERVER}network-failure-action = 'halt'\n", "remote-logging-server[1].network-failure-action"),
        (f"{RECEIVER}[[source]]\nname = 'a'\n{SERVER}", "source[1]"),
        (f"{RECEIVER}{SERVER}[[port-forwarding]]\nserver-address = '10.0.0.2'\n", "port-forwarding[1]"),
    ],
)
def test_what_has_no_effect_on_handing_on_is_a_warning(machine: Machine, text: str, table: str) -> None:
    configuration = read_configuration([machine.configuration(text)])
    assert f": {table}: has no effect on" in "\n".join(map(str, tables_without_effect(configuration, "receive")))


def test_no_server_of_a_receiver_is_called_archive(machine: Machine) -> None:
    sentence = 'the archive is "archive" in status and logs; give this server another name'
    assert sentence in machine.mistake(f'{RECEIVER}{SERVER}name = "archive"\n')


def test_originators_are_for_a_receiver_only(machine: Machine) -> None:
    text = CONFIGURATION.replace("[[remote-logging-server]]\n", '[[remote-logging-server]]\noriginators = ["a"]\n')
    assert "originators: has no effect on `relay run`" in machine.warning(text)


def test_events_that_a_receivers_configuration_enables_need_no_source(machine: Machine) -> None:
    assert "has no effect on `relay receive`" in machine.warning(f"{RECEIVER}[audit]\ntraffic.enabled = true\n")


@pytest.mark.parametrize("table", ['[[source]]\nname = "a"\n', "[audit]\nhalt-command = ['/bin/true']\n"])
def test_what_a_receiver_does_not_read_is_a_warning(machine: Machine, table: str) -> None:
    assert "has no effect on `relay receive`" in machine.warning(RECEIVER + table)


def test_a_configuration_with_both_parts_is_for_both_programs(machine: Machine) -> None:
    assert machine.findings(CONFIGURATION + RECEIVER) == CheckFindings((), ())
    (machine.folder / "id").unlink()
    endpoint = '[receiver.ssh]\nlisten = "127.0.0.1:2222"\nhost-key = "{folder}/id"\nauthorized-keys = "{folder}/id"\n'
    keys = [mistake.location.key for mistake in machine.findings(CONFIGURATION + endpoint).mistakes]
    assert keys == ["port-forwarding[1].private-key", "receiver.ssh.host-key", "receiver.ssh.authorized-keys"]


@pytest.mark.parametrize(("program", "warned"), [("run", "receiver"), ("receive", "source[1]")])
def test_the_program_can_be_named(machine: Machine, program: Program, warned: str) -> None:
    findings = check(read_configuration([machine.configuration(CONFIGURATION + RECEIVER)]), program)
    assert findings.mistakes == ()
    assert findings.warnings[0].location.key == warned


def test_for_run_a_receivers_configuration_has_nothing_to_forward(machine: Machine) -> None:
    (mistake,) = check(read_configuration([machine.configuration(RECEIVER)]), "run").mistakes
    assert mistake.sentence.startswith("nothing to forward: no source and no server in ")
