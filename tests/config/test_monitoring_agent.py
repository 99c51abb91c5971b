"""A Monitoring Agent's folder: the vendor's example word for word, which events go where, and what relay ignores."""

import os
import random
import shutil
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from relay.config.agent.config_yaml import agent_draft, is_agent_text
from relay.config.agent.telegraf_filters import TYPES
from relay.config.check.check import check
from relay.config.configuration import read_configuration, read_settings
from relay.config.document.settings_draft import SettingsDraft
from relay.config.router.router_choice import ANY, RouterChoice
from relay.errors import ConfigurationError, NoInputError
from relay.values.configuration.settings import QuietCategorySettings
from relay.values.configuration.source_settings import EventCollectorSource

EXAMPLE = Path(__file__).parent / "ssr" / "monitoring"
EVENTS = '[[inputs.t128_events]]\nindex-file = "/srv/x.index"\n'
BY_TYPE_ALONE = (
    "relay selects events for a server by the tag `type` alone, and removes nothing from events; filter in the inputs"
)
PASSED_OVER = "relay reads inputs of events and outputs of syslog only; ignored: "
SYSLOG = '[[outputs.syslog]]\naddress = "tcp://192.0.2.7:601"\n'


class Agent(NamedTuple):
    """A folder with a config.yaml, and the files that it names."""

    folder: Path

    def write(self, **files: str) -> None:
        for name, text in files.items():
            kind, _, rest = name.partition("_")
            path = self.folder / f"{kind}s" / f"{rest}.conf"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def config(self, text: str) -> Path:
        file = self.folder / "config.yaml"
        file.write_text(text)
        return file

    def draft(self, text: str, named: RouterChoice = ANY) -> SettingsDraft:
        return agent_draft(str(self.config(text)), text, named)

    def mistakes(self, text: str, named: RouterChoice = ANY) -> list[str]:
        return [str(each).replace(f"{self.folder}/", "") for each in self.draft(text, named).mistakes]

    def warned(self, text: str) -> list[str]:
        draft = self.draft(text)
        assert draft.mistakes == []
        found = [str(each).replace(f"{self.folder}/", "") for each in draft.warnings]
        return [warning for warning in found if "stop this input" not in warning]


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    agent = Agent(tmp_path / "agent")
    agent.folder.mkdir()
    agent.write(input_events=EVENTS, output_log=SYSLOG)
    return agent


BOTH = "inputs:\n  - name: events\noutputs:\n  - name: log\n"


# --- The vendor's example ----------------------------------------------------------------------------------


def test_the_vendors_example_needs_its_address_and_says_so() -> None:
    with pytest.raises(ConfigurationError) as wrong:
        read_settings([str(EXAMPLE)])
    (mistake,) = wrong.value.mistakes
    file = EXAMPLE / "outputs" / "my-syslog.conf"
    assert mistake == f'{file}:2: address: "<ip>" is not a host name or an IP address'


def test_the_vendors_example_with_an_address_works(tmp_path: Path) -> None:
    folder = tmp_path / "monitoring"
    shutil.copytree(EXAMPLE, folder)
    output = folder / "outputs" / "my-syslog.conf"
    output.write_text(output.read_text().replace("<ip>", "192.0.2.7"))
    configuration = read_configuration([str(folder)])
    (source,), (server,) = configuration.settings.source, configuration.settings.remote_logging_server
    assert isinstance(source, EventCollectorSource)
    assert source.name == "traffic-events"
    assert source.index == "/var/lib/128t-monitoring/state/events.index"
    assert source.tagpass == {"type": ("traffic",)}
    assert source.command[:5] == ("/usr/bin/eventCollector128t", "--log-name", "event_collector", "--topic", "events")
    assert (server.name, server.address, server.port) == ("my-syslog", "192.0.2.7", 514)
    assert (server.protocol, server.transport, server.types) == ("syslog", "udp", ("traffic",))
    assert configuration.settings.audit.sd_id == "128T"
    warnings = "\n".join(map(str, check(configuration).warnings))
    assert "two readers of one index file take events from each other" in warnings
    assert configuration.settings.audit.traffic == QuietCategorySettings(enabled=True, persist=False)
    assert "switched off" not in warnings


@pytest.mark.parametrize("name", ["", "config.yaml"])
def test_the_folder_and_its_file_are_the_same(agent: Agent, name: str) -> None:
    agent.config(BOTH)
    assert [source.name for source in read_settings([str(agent.folder / name)]).source] == ["events"]


def test_a_folder_without_a_configuration_is_a_no_input_error(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="it is a folder"):
        read_settings([str(tmp_path)])


# --- What goes where ---------------------------------------------------------------------------------------


def servers(draft: SettingsDraft) -> dict[str, list[str]]:
    assert draft.mistakes == []
    return {server["name"]: server["types"] for server in draft.document["remote-logging-server"]}


def test_an_input_goes_to_every_output_and_passes_every_type(agent: Agent) -> None:
    assert servers(agent.draft(BOTH)) == {"log": list(TYPES)}


def test_outputs_are_included_and_excluded_by_the_types_of_their_inputs(agent: Agent) -> None:
    agent.write(
        input_traffic=EVENTS + 'tagpass = { type = ["traffic"] }\n',
        input_rest=EVENTS + 'tagdrop = { type = ["t*", "alarm"] }\n',
        input_alarms=EVENTS + 'tagpass = { type = ["al[a-m]rm"] }\n',
        output_second=SYSLOG,
    )
    text = """\
inputs:
  - name: traffic
    include-outputs: [second]
  - name: rest
    exclude-outputs:
      - second
  - name: alarms
outputs:
  - name: log
  - name: second
"""
    assert servers(agent.draft(text)) == {
        "log": ["admin", "audit", "alarm", "provisioning", "system", "security", "log"],
        "second": ["alarm", "traffic"],
    }


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ('tagpass = { type = ["alarm", "traffic"] }', False),
        ('tagpass = { type = ["alarm", "tr*"] }', True),
        ('tagpass = { type = ["alarm", "novel"] }', True),
        ('tagpass = { type = ["n*"] }', True),
        ('tagpass = { type = ["*"] }', True),
        ('tagpass = { node = ["a"] }', True),
        ('tagdrop = { type = ["alarm", "novel"] }', True),
        ('tagdrop = { type = ["[a-l]*"] }', True),
        (f"tagdrop = {{ type = {[type_ for type_ in TYPES if type_ != 'log']} }}", True),
    ],
)
def test_an_unknown_type_goes_where_the_filters_of_its_input_let_it_pass(
    agent: Agent, filters: str, *, passes: bool
) -> None:
    """A newer router can have such types; for relay their events have the type log."""
    agent.write(input_events=f"{EVENTS}{filters}\n")
    (types,) = servers(agent.draft(BOTH)).values()
    assert ("log" in types) is passes


def test_unknown_types_that_might_go_to_a_wrong_output_are_not_sent_and_a_warning_says_so(agent: Agent) -> None:
    """A glob may match them, and another input, which does not go to this output, may have them too."""
    agent.write(
        input_alarms=EVENTS + 'tagpass = { type = ["al*"] }\n',
        input_events=EVENTS + 'tagdrop = { type = ["alarm"] }\n',
        output_second=SYSLOG.replace("601", "602"),
    )
    text = "inputs:\n  - name: alarms\n    include-outputs: [second]\n  - name: events\n    exclude-outputs: [second]\n"
    text += "outputs:\n  - name: log\n  - name: second\n"
    assert servers(agent.draft(text)) == {"log": [each for each in TYPES if each != "alarm"], "second": ["alarm"]}
    assert agent.warned(text) == [
        (
            'config.yaml:1: inputs: output "second": relay does not send events of unknown types there, even where '
            'the tagpass of input "alarms" matches, because input "events", which does not go there, can have such '
            "events too"
        )
    ]
    agent.write(input_events=EVENTS + 'tagpass = { type = ["admin", "audit"] }\n')
    assert servers(agent.draft(text)) == {"log": ["admin", "audit"], "second": ["alarm", "log"]}
    assert agent.warned(text) == []


def test_an_input_whose_filters_drop_every_type_goes_nowhere(agent: Agent) -> None:
    agent.write(input_events=EVENTS + 'tagdrop = { type = ["*"] }\n')
    assert agent.warned(BOTH) == [
        'config.yaml:3: outputs: output "log" gets events from no input that relay reads; ignored'
    ]


# --- What is switched off ----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["false", "disabled", '"false"', "no", "off", "'No'", "Disabled"])
def test_a_disabled_input_is_ignored(agent: Agent, word: str) -> None:
    agent.write(input_second=EVENTS)
    text = BOTH.replace("outputs", f"  - name: second\n    enabled: {word}\noutputs")
    assert agent.warned(text) == ['config.yaml:1: inputs: input "second" is disabled; ignored']
    assert [source["name"] for source in agent.draft(text).document["source"]] == ["events"]


@pytest.mark.parametrize("word", ["true", "enabled", "yes", "'on'", "", "TRUE"])
def test_an_enabled_input_is_read(agent: Agent, word: str) -> None:
    text = f"enabled: {word}\n" + BOTH.replace("events\n", f"events\n    enabled: {word}\n")
    assert agent.warned(text) == []
    assert servers(agent.draft(text)) == {"log": list(TYPES)}


@pytest.mark.parametrize("word", ["false", "disabled"])
def test_a_disabled_agent_is_ignored(agent: Agent, word: str) -> None:
    (warning,) = agent.warned(f"enabled: {word}\n{BOTH}")
    assert warning.startswith("config.yaml:1: enabled: the Monitoring Agent is disabled here")
    assert agent.draft(f"enabled: {word}\n{BOTH}").document == {}


@pytest.mark.parametrize("word", ["maybe", "[1]", "2"])
def test_another_value_of_enabled_is_a_mistake(agent: Agent, word: str) -> None:
    (mistake,) = agent.mistakes(BOTH.replace("events\n", f"events\n    enabled: {word}\n"))
    assert mistake.startswith('config.yaml:1: inputs: input "events": enabled must be true or false, not "')


# --- Traffic, which [audit] keeps back by itself -------------------------------------------------------------


def traffic(agent: Agent, *more: str) -> tuple[bool, bool]:
    """Whether it is enabled, and persists."""
    files = [agent.folder / f"more-{number}" for number in range(len(more))]
    for file, text in zip(files, more, strict=True):
        file.write_text(text)
    found = {
        read_settings(list(map(str, files_))).audit.traffic
        for files_ in ([agent.folder, *files], [*files, agent.folder])
    }
    (category,) = found
    return category.enabled, category.persist


ROUTER_WITHOUT_TRAFFIC = "router r\n    system\n        audit\n            traffic\n                enabled false\n"


def test_traffic_that_an_agent_sends_is_enabled_unless_another_file_says_otherwise(agent: Agent) -> None:
    agent.config(BOTH)
    assert traffic(agent) == (True, False)
    assert traffic(agent, "[audit]\ntraffic = { enabled = false }") == (False, False)
    assert traffic(agent, "[audit]\ntraffic = { persist = true }") == (True, True)
    assert traffic(agent, ROUTER_WITHOUT_TRAFFIC) == (False, False)
    agent.write(input_events=EVENTS + 'tagdrop = { type = ["traffic"] }\n')
    assert traffic(agent) == (False, False)


def test_a_mistake_without_a_location_belongs_to_the_first_file(agent: Agent) -> None:
    agent.config(BOTH)
    first = agent.folder / "first.toml"
    first.write_text('[relay]\nstate-directory = "/srv"\n')
    assert read_configuration([str(first), str(agent.folder)]).locate(("spool",)).file == str(first)


# --- An older agent's input --------------------------------------------------------------------------------

OLDER = """\
[[inputs.execd]]
  command = "/usr/bin/eventCollector128t"
  signal = "none"
  data_format = "influx"
  [inputs.execd.tagpass]
  type = ["alarm", "admin"]
"""


def test_the_older_input_of_the_vendor_is_the_event_collector_too(agent: Agent) -> None:
    agent.write(input_events=OLDER)
    (source,) = agent.draft(BOTH).document["source"]
    assert source == {
        "name": "events",
        "type": "event-collector",
        "command": ["/usr/bin/eventCollector128t"],
        "tagpass": {"type": ["alarm", "admin"]},
    }
    assert servers(agent.draft(BOTH)) == {"log": ["admin", "alarm"]}
    assert agent.warned(BOTH) == [
        "inputs/events.conf:1: source[1]: there is no index-file, so relay cannot resume where it stopped; add one"
    ]


def test_the_index_of_the_older_input_is_in_its_arguments(agent: Agent) -> None:
    command = '["/usr/bin/eventCollector128t", "--topic", "events", "--index-file", "/srv/${ROUTER}.index"]'
    agent.write(input_events=OLDER.replace('"/usr/bin/eventCollector128t"', f"{command}\nrestart_delay = '10s'"))
    file = agent.config(f"tags:\n  - key: router\n    value: edge\n{BOTH}")
    named = agent.folder / "named.toml"
    named.write_text('[relay]\nrouter = "edge"\n')
    (source,) = read_settings([str(named), str(file)]).source
    assert isinstance(source, EventCollectorSource)
    assert source.index == "/srv/edge.index"
    assert agent.draft(BOTH, RouterChoice("edge")).warnings[0].sentence.startswith("stop this input")


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ('data_format = "json"', None),
        ('data_format = "graphite"', 'inputs/events.conf:4: data_format: relay reads influx and json, not "graphite"'),
    ],
)
def test_the_format_of_the_older_input_must_be_one_that_relay_reads(
    agent: Agent, line: str, mistake: str | None
) -> None:
    agent.write(input_events=OLDER.replace('data_format = "influx"', line))
    assert agent.mistakes(BOTH) == ([mistake] if mistake else [])


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ('signal = "none"\nrestart_delay = "5s"\nbuffer_size = "64Kib"\ninflux_parser_type = "upstream"', None),
        (
            'signal = "STDIN"',
            "signal: relay sends no signal; a program that writes only when asked gives no events",
        ),
        ("stop_on_error = true", "stop_on_error: relay restarts a program that ended, whatever its exit status"),
        ("stop_on_error = false", None),
        ('influx_timestamp_precision = "1ns"', None),
        (
            'data_format = "json"',
            (
                "data_format: relay reads JSON objects as Telegraf writes them, with name, tags, fields and timestamp; "
                'it sends any other line unchanged, as an event of type "log" that is marked as malformed'
            ),
        ),
    ],
)
def test_differences_from_execd_are_warnings(agent: Agent, line: str, warning: str | None) -> None:
    agent.write(
        input_events=f'[[inputs.execd]]\ncommand = ["/usr/bin/eventCollector128t", "--index-file=/x"]\n{line}\n'
    )
    assert agent.warned(BOTH) == ([f"inputs/events.conf:3: {warning}"] if warning else [])


def test_times_in_another_unit_are_a_mistake(agent: Agent) -> None:
    agent.write(input_events=OLDER.replace('signal = "none"', 'influx_timestamp_precision = "1s"'))
    assert agent.mistakes(BOTH) == [
        'inputs/events.conf:3: influx_timestamp_precision: relay reads nanoseconds (1ns), not "1s"'
    ]


def test_the_environment_of_the_older_input_is_kept(agent: Agent) -> None:
    agent.write(input_events=OLDER.replace('signal = "none"', 'environment = ["A=b=c", "ROUTER=${ROUTER}"]'))
    (source,) = agent.draft(BOTH, RouterChoice("edge")).document["source"]
    assert source["environment"] == ["A=b=c", "ROUTER=edge"]


def test_another_program_is_among_the_ignored_inputs(agent: Agent) -> None:
    agent.write(input_other='[[inputs.execd]]\ncommand = ["/usr/bin/other"]\n[[inputs.execd]]\n')
    (warning,) = agent.warned(BOTH.replace("outputs", "  - name: other\noutputs"))
    assert warning == f"config.yaml:1: {PASSED_OVER}input other (execd of /usr/bin/other, execd)"


def test_inputs_that_their_types_do_not_separate_are_a_mistake(agent: Agent) -> None:
    agent.write(input_alarms=EVENTS + 'tagpass = { type = ["alarm"] }\n', output_second=SYSLOG)
    text = BOTH.replace("outputs", "  - name: alarms\n    include-outputs: [second]\noutputs") + "  - name: second\n"
    (mistake,) = agent.mistakes(text)
    assert mistake == (
        'config.yaml:1: inputs: input "alarms" does not go to output "log", but another input with events of the '
        "same type (alarm) does; relay selects by type: separate the inputs by tagpass"
    )


def test_several_tags_in_tagpass_leave_every_type_possible(agent: Agent) -> None:
    """In Telegraf an event passes when any one of them lets it pass."""
    agent.write(input_events=EVENTS + 'tagpass = { type = ["alarm"], node = ["a"] }\n')
    assert servers(agent.draft(BOTH)) == {"log": list(TYPES)}


def test_filters_topic_and_log_name_are_taken_over(agent: Agent) -> None:
    agent.write(
        input_events=EVENTS
        + 'topic = "offline_events"\nlog-name = "mine"\nfieldpass = ["a*"]\nfielddrop = ["b"]\n'
        + "[inputs.t128_events.tagdrop]\nnode = ['x']\n"
    )
    (source,) = agent.draft(BOTH).document["source"]
    assert source["command"][1:5] == ["--log-name", "mine", "--topic", "offline_events"]
    assert (source["fieldpass"], source["fielddrop"], source["tagdrop"]) == (["a*"], ["b"], {"node": ["x"]})


def test_the_input_can_be_in_another_file(agent: Agent) -> None:
    agent.write(input_shared=EVENTS)
    text = "inputs:\n  - name: a\n    conf: shared.conf\n  - name: b\n    conf: shared.conf\noutputs:\n  - name: log\n"
    assert [source["name"] for source in agent.draft(text).document["source"]] == ["a", "b"]


def test_the_files_are_in_the_lib_directory_unless_they_are_beside_config_yaml(agent: Agent, tmp_path: Path) -> None:
    alone = tmp_path / "config.yaml"
    alone.write_text(f"lib-directory: {agent.folder}\n{BOTH}")
    assert [source.name for source in read_settings([str(alone)]).source] == ["events"]


# --- Values ------------------------------------------------------------------------------------------------


def test_variables_are_replaced(agent: Agent) -> None:
    agent.write(
        input_events='[[inputs.t128_events]]\nindex-file = "/srv/${ROUTER}/${NODE}"\n'
        'tagpass = { host = ["${HOSTNAME}"] }\n'
    )
    (source,) = agent.draft(BOTH, RouterChoice("edge", "a")).document["source"]
    assert source["command"][-1] == "/srv/edge/a"
    assert source["tagpass"] == {"host": [socket.gethostname()]}


def test_an_unknown_variable_is_a_mistake(agent: Agent) -> None:
    agent.write(input_events='[[inputs.t128_events]]\nindex-file = "/srv/${ROUTER}/${OTHER}"\n')
    further = "set `router` in [relay] of a further file"
    assert agent.mistakes(BOTH) == [
        f'inputs/events.conf:2: index-file: the value of "${{ROUTER}}" is not known; {further}',
        'inputs/events.conf:2: index-file: relay does not know "${OTHER}"; it knows ROUTER, NODE, HOSTNAME',
    ]


@pytest.mark.parametrize("name", ["128T_VERSION", "WEB_PORT", "SITE"])
def test_a_variable_that_only_the_router_knows_is_a_mistake(agent: Agent, name: str) -> None:
    """The vendor's variables, and those of config.yaml; in keys that relay does not use they are no mistake."""
    agent.write(input_events=f'{EVENTS}topic = "${{{name}}}"\nversion = "${{{name}}}"\n')
    sentence = f'the Monitoring Agent asks the router for "${{{name}}}", and relay does not; write the value instead'
    found = agent.mistakes(f"variables:\n  - name: SITE\n    query: allRouters\n{BOTH}")
    assert found == [f"inputs/events.conf:3: topic: {sentence}"]


def test_the_tags_router_and_node_become_keys_of_relay_and_the_others_tags_of_sources(agent: Agent) -> None:
    text = f"""\
tags:
  - key: router
    value: edge
  - key: node
    value: ${{NODE}}
  - key: host
    value: ${{HOSTNAME}}
  - key: site
    value: north-${{HOSTNAME}}
  - key: rack
    value: 7
  - key: live
    value: true
{BOTH}"""
    assert agent.warned(text) == []
    document = agent.draft(text).document
    assert document["relay"] == {"router": "edge"}
    assert document["source"][0]["tags"] == {"site": f"north-{socket.gethostname()}", "rack": "7", "live": "true"}
    (source,) = read_settings([str(agent.folder)]).source
    assert isinstance(source, EventCollectorSource)
    assert source.tags["rack"] == "7"


def test_an_inputs_own_tags_come_before_those_of_all_inputs(agent: Agent) -> None:
    """As in Telegraf, where they are added first."""
    agent.write(input_events=EVENTS + '[inputs.t128_events.tags]\nsite = "own"\nnode = "${NODE}"\n', input_other=EVENTS)
    text = "tags:\n  - {key: site, value: all}\n  - {key: rack, value: r7}\n"
    text += BOTH.replace("outputs", "  - name: other\noutputs")
    first, second = agent.draft(text, RouterChoice("edge", "a")).document["source"]
    assert first["tags"] == {"site": "own", "rack": "r7", "node": "a"}
    assert second["tags"] == {"site": "all", "rack": "r7"}


def test_a_tag_whose_variable_relay_does_not_know_is_a_mistake(agent: Agent) -> None:
    text = f"tags:\n  - {{key: version, value: '${{128T_VERSION}}'}}\n{BOTH}"
    sentence = 'the Monitoring Agent asks the router for "${128T_VERSION}", and relay does not; write the value instead'
    assert agent.mistakes(text) == [f"config.yaml:1: tags: {sentence}"]


@pytest.mark.parametrize("tag", ["{key: site}", "{value: x}", "x", "{key: site, value: ''}", "{key: a, value: [b]}"])
def test_an_incomplete_tag_is_a_warning(agent: Agent, tag: str) -> None:
    assert agent.warned(f"tags:\n  - {tag}\n{BOTH}") == [
        f"config.yaml:1: {PASSED_OVER}a tag without a key and a value",
    ]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('address = "udp4://192.0.2.7:514"', {"port": 514, "transport": "udp"}),
        ('address = "tcp6://[2001:db8::1]:601"', {"address": "2001:db8::1", "port": 601, "transport": "tcp"}),
        ('address = "tcp://log:601"\nframing = "non-transparent"', {"framing": "non-transparent"}),
        (
            'address = "tcp://log:601"\nframing = "NON-transparent"\ntrailer = "nul"',
            {"framing": "non-transparent", "trailer": "NUL"},
        ),
        (
            'address = "tcp://log:6514"\ntls_server_name = "log.example"',
            {"transport": "tls", "server-name": "log.example"},
        ),
        ('address = "tcp://log:6514"\ntls_enable = true', {"transport": "tls"}),
        ('address = "tcp://log:6514"\ntls_enable = false\ntls_ca = "/a"', {"transport": "tcp"}),
        (
            'address = "tcp://log:6514"\ntls_ca = "/a"\ntls_cert = "/b"\ntls_key = "/c"',
            {"transport": "tls", "ca": "/a", "certificate": "/b", "private-key": "/c"},
        ),
    ],
)
def test_an_output_is_a_server(agent: Agent, output: str, expected: dict[str, Any]) -> None:
    agent.write(output_log=f"[[outputs.syslog]]\n{output}\n")
    draft = agent.draft(BOTH)
    assert draft.mistakes == []
    assert draft.document["remote-logging-server"][0].items() >= expected.items()


@pytest.mark.parametrize(
    ("output", "mistake"),
    [
        ('address = "unix:///dev/log"', "2: address: relay sends to network addresses only; give the local syslog"),
        ('address = "unixgram:///dev/log"', "2: address: relay sends to network addresses only; give the local syslog"),
        ('address = "http://log:1"', '2: address: must be as "udp://192.0.2.1:514" or'),
        ("", '1: address: must be as "udp://192.0.2.1:514" or "tcp://192.0.2.1:601", not ""'),
        ("address = 1", "2: address: must be a text in quotes"),
        ('address = "tcp://log"', '2: address: "log" is not an address'),
        ('address = "tcp://log:1"\ninsecure_skip_verify = true', "3: insecure_skip_verify: relay always verifies"),
        (
            'address = "tcp://log:1"\ntls_key_pwd = "secret"',
            "3: tls_key_pwd: relay reads private keys without a passphrase",
        ),
        ('address = "tcp://log:1"\nnamepass = ["a*"]', f"3: namepass: {BY_TYPE_ALONE}"),
        ('address = "tcp://log:1"\nmetricpass = "true"', f"3: metricpass: {BY_TYPE_ALONE}"),
        ('address = "tcp://log:1"\nfieldexclude = ["a"]', f"3: fieldexclude: {BY_TYPE_ALONE}"),
        ('address = "tcp://log:1"\ntagexclude = ["a"]', f"3: tagexclude: {BY_TYPE_ALONE}"),
        ('address = "tcp://log:1"\ntagpass = { node = ["a"] }', f"3: tagpass: {BY_TYPE_ALONE}"),
        ('address = "tcp://log:1"\ntagdrop = { type = ["a"], node = ["a"] }', f"3: tagdrop: {BY_TYPE_ALONE}"),
        ('address = "tcp://log:1"\ntagpass = { type = ["[a"] }', '3: tagpass: "[a" is not a pattern'),
        ('address = "tcp://log:1"\ntagpass = { type = "alarm" }', "3: tagpass: must be as in tagpass = {"),
        ('address = "tcp://log:1"\ntagpass = { type = ["alarm", ["a*"]] }', "3: tagpass: must be as in tagpass = {"),
        ('address = "tcp://log:1"\npass = ["a*"]', f"3: pass: {BY_TYPE_ALONE}"),
    ],
)
def test_an_output_that_relay_cannot_express_is_a_mistake(agent: Agent, output: str, mistake: str) -> None:
    agent.write(output_log=f"[[outputs.syslog]]\n{output}\n")
    assert agent.mistakes(BOTH)[0].startswith(f"outputs/log.conf:{mistake}")


def test_an_insecure_connection_is_a_mistake_that_names_the_fingerprint(agent: Agent) -> None:
    agent.write(output_log=SYSLOG + "insecure_skip_verify = true\n")
    (mistake,) = agent.mistakes(BOTH)
    assert '`fingerprint = "sha-256:…"`' in mistake


def test_a_trailer_has_no_effect_with_octet_counting(agent: Agent) -> None:
    """As in Telegraf."""
    agent.write(output_log=SYSLOG + 'trailer = "NUL"\n')
    assert agent.warned(BOTH) == []
    assert "trailer" not in agent.draft(BOTH).document["remote-logging-server"][0]


def test_an_outputs_own_filters_by_type_narrow_its_types(agent: Agent) -> None:
    agent.write(
        input_events=EVENTS + 'tagdrop = { type = ["traffic"] }\n',
        output_log=SYSLOG
        + 'tagpass = { type = ["al*", "traffic", "admin"] }\n'
        + SYSLOG.replace("601", "602")
        + 'tagdrop = { type = ["a*", "s*"] }\n'
        + SYSLOG.replace("601", "603")
        + 'tagpass = { type = ["traffic"] }\n',
    )
    assert servers(agent.draft(BOTH)) == {"log": ["admin", "alarm"], "log-2": ["provisioning", "log"]}
    assert agent.warned(BOTH) == [
        (
            "outputs/log.conf:3: tagpass: relay does not send events of types that it does not know to this output, "
            "even where a pattern matches; to send all of them, name such a type in full"
        ),
        "outputs/log.conf:7: its filters let no event pass; ignored",
    ]


def test_inputs_of_outputs_with_different_types_need_no_separation(agent: Agent) -> None:
    agent.write(
        input_alarms=EVENTS + 'tagpass = { type = ["alarm"] }\n',
        output_log=SYSLOG + 'tagdrop = { type = ["alarm"] }\n',
        output_second=SYSLOG.replace("601", "602") + 'tagpass = { type = ["alarm"] }\n',
    )
    text = BOTH.replace("outputs", "  - name: alarms\n    include-outputs: [second]\noutputs") + "  - name: second\n"
    assert servers(agent.draft(text)) == {
        "log": [type_ for type_ in TYPES if type_ != "alarm"],
        "second": ["alarm"],
    }


@pytest.mark.parametrize("key", ["namepass", "namedrop", "taginclude", "tagexclude"])
def test_a_filter_of_an_input_that_relay_does_not_have_is_a_mistake(agent: Agent, key: str) -> None:
    """Without it relay would send more events than intended."""
    agent.write(input_events=f'{EVENTS}{key} = ["a"]\n')
    sentence = f"{key}: relay has only the filters tagpass, tagdrop, fieldpass and fielddrop"
    assert agent.mistakes(BOTH) == [f"inputs/events.conf:3: {sentence}"]


def test_newer_names_of_filters_are_the_older_ones(agent: Agent) -> None:
    agent.write(input_events=EVENTS + 'fieldinclude = ["a*"]\nfieldexclude = ["b"]\nnamepass = []\n')
    (source,) = agent.draft(BOTH).document["source"]
    assert (source["fieldpass"], source["fielddrop"]) == (["a*"], ["b"])


def test_values_under_two_names_of_a_filter_are_one_list_and_empty_filters_have_no_effect(agent: Agent) -> None:
    """As in Telegraf; `pass` and `drop` are the oldest names."""
    agent.write(input_events=EVENTS + 'fieldpass = ["a"]\npass = ["b*"]\nfielddrop = []\ndrop = ["c"]\ntagdrop = {}\n')
    (source,) = agent.draft(BOTH).document["source"]
    assert (source["fieldpass"], source["fielddrop"]) == (["a", "b*"], ["c"])
    assert "tagdrop" not in source
    assert read_settings([str(agent.folder)]).source


def test_defaults_of_events_are_keys_of_their_source(agent: Agent) -> None:
    agent.write(
        input_rest=EVENTS,
        output_log=SYSLOG + 'default_severity_code = 3\ndefault_facility_code = 16\ndefault_appname = "edge"\n',
    )
    text = BOTH.replace("outputs", "  - name: rest\n    include-outputs: []\noutputs")
    first, second = agent.draft(text).document["source"]
    assert (first["severity"], first["facility"], first["app-name"]) == ("err", "local0", "edge")
    assert {"severity", "facility", "app-name"}.isdisjoint(second)


def test_two_such_defaults_for_one_source_are_a_mistake(agent: Agent) -> None:
    agent.write(
        output_log=SYSLOG + "default_facility_code = 16\n",
        output_second=SYSLOG.replace("601", "602") + "default_facility_code = 17\n",
    )
    sentence = 'relay has one facility for all servers that get these events: "local0"'
    assert agent.mistakes(BOTH + "  - name: second\n") == [f"outputs/second.conf:3: default_facility_code: {sentence}"]


@pytest.mark.parametrize("value", ["24", "-1", "true", "'user'"])
def test_a_default_that_is_not_a_facility_is_a_mistake(agent: Agent, value: str) -> None:
    agent.write(output_log=f"{SYSLOG}default_facility_code = {value}\n")
    assert agent.mistakes(BOTH) == ["outputs/log.conf:3: default_facility_code: must be a number from 0 to 23"]


def test_two_sd_ids_are_a_mistake(agent: Agent) -> None:
    agent.write(output_log=SYSLOG + 'default_sdid = "128T"\n', output_second=SYSLOG + 'default_sdid = "other"\n')
    assert agent.mistakes(BOTH + "  - name: second\n") == [
        'outputs/second.conf:3: default_sdid: relay has one SD-ID for all servers, and it is "128T" already'
    ]


# --- What relay has not, and what is wrong -----------------------------------------------------------------


def test_everything_that_relay_ignores_is_in_one_warning(agent: Agent) -> None:
    agent.write(
        input_system="[[inputs.cpu]]\npercpu = true\n[[inputs.disk]]\n[[inputs.mem]]\n",
        output_file='[[outputs.file]]\nfiles = ["stdout"]\n',
        output_log=SYSLOG + "sdids = ['a']\ntls_min_version = 'TLS13'\nsdparam_separator = '_'\nalias = 'x'\n",
    )
    text = "variables:\n  - name: X\n" + BOTH.replace("outputs", "  - name: system\n    color: red\noutputs")
    not_read = "color of input system, input system (cpu, disk, mem), output file (file), variables"
    assert agent.warned(text + "  - name: file\n") == [
        "outputs/log.conf:3: sdids: relay has one SD-ID; names that begin with another one stay as they are",
        "outputs/log.conf:4: tls_min_version: relay accepts TLS 1.2 and newer, the newest that both sides have",
        "outputs/log.conf:1: relay does not support alias; ignored",
        f"config.yaml:1: {PASSED_OVER}{not_read}",
    ]


def test_an_output_without_inputs_is_ignored(agent: Agent) -> None:
    agent.write(input_events="[[inputs.cpu]]\n")
    assert "remote-logging-server" not in agent.draft(BOTH).document
    assert agent.warned(BOTH) == [
        'config.yaml:3: outputs: output "log" gets events from no input that relay reads; ignored',
        f"config.yaml:1: {PASSED_OVER}input events (cpu)",
    ]


def test_a_disabled_output_is_ignored(agent: Agent) -> None:
    text = BOTH + "    enabled: false\n"
    assert "remote-logging-server" not in agent.draft(text).document
    assert agent.warned(text) == ['config.yaml:3: outputs: output "log" is disabled; ignored']


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            BOTH + "  - name: nowhere\n",
            'config.yaml:3: outputs: "nowhere": outputs/nowhere.conf: there is no such file',
        ),
        (
            BOTH.replace("events\n", "events\n    include-outputs: [x]\n"),
            'config.yaml:1: inputs: input "events" names the output',
        ),
        ("inputs: events\noutputs: []\n", "config.yaml:1: inputs: must be a list of entries with a `name`"),
        ("inputs:\n  - events\n", "config.yaml:1: inputs: must be a list of entries with a `name`"),
        ("inputs:\n  - name: [1]\n", "config.yaml:1: inputs: must be a list of entries with a `name`"),
    ],
)
def test_mistakes_of_config_yaml(agent: Agent, text: str, mistake: str) -> None:
    assert agent.mistakes(text)[0].startswith(mistake)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("inputs: [\n", "config.yaml:2: is not YAML: expected the node content"),
        ("inputs: {\n  a: b: c}\n", "config.yaml:2: is not YAML"),
        ("---\n- a\n", "config.yaml: is not a configuration of a Monitoring Agent"),
        ("a: !!python/object:os.system x\n", "config.yaml:1: is not YAML: could not determine a constructor"),
        ("a: 2020-99-99\n", "config.yaml: is not YAML that can be parsed"),
        ("a: " + "[" * 5000, "config.yaml: is not YAML"),
        ("a: " + "x" * 70_000, "config.yaml: is larger than 64 KiB"),
        ("a: &a [x]\nb: &b [*a,*a]\ninputs: [*b, *b]\n", "config.yaml:3: inputs: must be a list of entries"),
    ],
)
def test_a_text_that_is_not_a_configuration_is_one_mistake(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str
) -> None:
    agent.config(text)
    monkeypatch.chdir(agent.folder)
    with pytest.raises(ConfigurationError) as wrong:
        read_settings(["config.yaml"])
    assert wrong.value.mistakes[0].startswith(sentence)


def test_the_mistake_of_an_input_file_that_is_not_toml_has_its_line(agent: Agent) -> None:
    agent.write(input_events="[[inputs.t128_events]]\nindex-file =\n")
    assert agent.mistakes(BOTH) == ["inputs/events.conf:2: is not TOML: Invalid value"]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("enabled: true\n", True),
        ("# a comment\n\n---\n- x\n", True),
        ("inputs:\n", True),
        ("[relay]\n", False),
        ("a = 'b: c'\n", False),
        ('"a: b" = 1\n', False),
        ("", False),
    ],
)
def test_yaml_is_known_by_its_first_line(text: str, is_one: bool) -> None:
    assert is_agent_text(text) is is_one


def test_no_text_makes_reading_fail(agent: Agent) -> None:
    """Seeded: the example's files, cut and with pieces of each other. RELAY_FUZZ_SECONDS=300 is the long form.

    A wrong text is a list of mistakes, each on one line that a terminal can show.
    """
    chance = random.Random(7)
    end = time.monotonic() + float(os.environ.get("RELAY_FUZZ_SECONDS", "1"))
    texts = [path.read_text() for path in sorted(EXAMPLE.rglob("*.*")) if path.is_file()]
    pieces = [
        *" ".join(texts).split(),
        *["${ROUTER}", "${}", "[]", "{}", ":", "-", "?", "&a", "*a", "!!int"],
        "\0",
        "\n",
        "  ",
    ]
    while time.monotonic() < end:
        made = [mutated(chance, text, pieces) for text in texts]
        agent.write(**{"input_traffic-events": made[1], "output_my-syslog": made[2]})
        agent.config(made[0])
        mistakes: tuple[str, ...] = ()
        try:
            read_settings([str(agent.folder / "config.yaml")])
        except ConfigurationError as error:
            mistakes = error.mistakes
        assert [mistake for mistake in mistakes if not mistake.isprintable()] == []


def mutated(chance: random.Random, text: str, pieces: list[str]) -> str:
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(pieces) + text[at + chance.randrange(4) :]
    return text
