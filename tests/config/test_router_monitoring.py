"""A conductor's `authority > monitoring` and a router's `system > monitoring`, as the vendor documents them."""

import re
from pathlib import Path
from typing import Any

import pytest

from relay.config.configuration import read_configuration
from relay.config.router.router_draft import router_draft

EXAMPLE = (Path(__file__).parent / "ssr" / "monitoring-plugin.cfg").read_text()
PASSED_OVER = "relay reads inputs of events and outputs of syslog only; ignored: "
COMMAND = ["/usr/bin/eventCollector128t", "--log-name", "event_collector", "--topic", "events"]


def document(text: str) -> dict[str, Any]:
    draft = router_draft("router.cfg", text)
    assert draft.mistakes == []
    return draft.document


def warned(text: str) -> list[str]:
    draft = router_draft("router.cfg", text)
    assert draft.mistakes == []
    return [str(each) for each in draft.warnings if "stop this input" not in str(each)]


def flat(text: str) -> str:
    """The text as `show config running flat` prints it: one line for each leaf, with its full path."""
    way: list[str] = []
    lines = []
    statements = [line.strip() for line in text.splitlines() if line.strip()]
    depths = [len(line) - len(line.lstrip()) for line in text.splitlines() if line.strip()]
    for index, (statement, depth) in enumerate(zip(statements, depths, strict=True)):
        if statement == "exit":
            way.pop()
        elif depths[index + 1] > depth:
            way.append(" ".join(statement.split()))
        else:
            lines.append(" ".join([*way, statement]))
    return "\n".join(lines) + "\n"


def unindented(text: str) -> str:
    """The text without indentation, and without unknown sections, whose ends relay could not recognise."""
    others = r"\n +(?:device-interface|kafka)\n.*?\n                exit\n"
    return "\n".join(line.strip() for line in re.sub(others, "\n", text, flags=re.DOTALL).splitlines()) + "\n"


@pytest.mark.parametrize("form", [str, flat, unindented])
def test_an_agent_config_that_a_router_refers_to_is_a_source_and_a_server(form: Any) -> None:
    found = document(form(EXAMPLE))
    assert found["source"] == [
        {
            "name": "events",
            "type": "event-collector",
            "command": [*COMMAND, "--index-file", "/var/lib/relay/events.index"],
            "tagpass": {"type": ["admin", "alarm"]},
            "tags": {"custom": "custom1", "site": "node1", "rack": "r7"},
            "facility": "local4",
            "severity": "err",
        }
    ]
    (server,) = found["remote-logging-server"]
    assert (server["name"], server["address"], server["port"]) == ("syslog", "localhost", 514)
    assert (server["protocol"], server["transport"], server["types"]) == ("syslog", "tcp", ["admin", "alarm"])
    assert found["audit"] == {"sd-id": "128T"}
    assert found["relay"] == {"router": "router1", "node": "node1"}


@pytest.mark.parametrize("form", [str, flat, unindented])
def test_everything_that_relay_ignores_is_in_one_warning(form: Any) -> None:
    (warning,) = warned(form(EXAMPLE))
    assert warning.partition(": ")[2] == PASSED_OVER + "input device-state (device-interface), output kafka (kafka)"


def test_the_audit_log_stays_a_source_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "router.cfg"
    file.write_text(EXAMPLE)
    configuration = read_configuration([str(file)])
    assert [source.name for source in configuration.settings.source] == ["events", "audit"]
    assert [str(warning) for warning in configuration.warnings if "source[2]" in warning.location.key] == []
    assert [warning.location.line for warning in configuration.warnings if "source[1]" in warning.location.key] == [7]


def test_a_warning_asks_to_stop_the_other_reader_of_the_events() -> None:
    (warning,) = [str(each) for each in router_draft("router.cfg", EXAMPLE).warnings if "stop this input" in str(each)]
    assert warning.startswith("router.cfg:7: source[1]: stop this input of the Monitoring Agent before relay runs")


def test_a_disabled_monitoring_agent_is_ignored() -> None:
    text = EXAMPLE.replace("enabled       true", "enabled       false")
    assert document(text).keys() == {"relay"}
    (warning,) = warned(text)
    assert re.fullmatch(r"router\.cfg:\d+: enabled: the Monitoring Agent is disabled here, .*", warning)


def test_a_router_without_a_monitoring_section_has_no_agent() -> None:
    begin, end = (
        EXAMPLE.index("                monitoring\n"),
        EXAMPLE.rindex("            exit\n        exit\n    exit\n"),
    )
    text = EXAMPLE[:begin] + EXAMPLE[end:]
    assert document(text) == {"relay": {"router": "router1", "node": "node1"}}
    assert warned(text) == []


def test_an_agent_config_that_is_not_in_the_text_is_a_warning() -> None:
    (warning,) = warned(
        EXAMPLE.replace("agent-config  my-agent\n                exit", "agent-config  other\n                exit")
    )
    assert 'agent-config "other" is not in this text, so relay reads nothing of the Monitoring Agent' in warning


def test_inputs_and_outputs_can_be_in_telegrafs_toml() -> None:
    """custom-input and custom-output."""
    inner = '[[inputs.t128_events]]\nindex-file = "/srv/${ROUTER}.index"\n[inputs.t128_events.tags]\nsite = "own"\n'
    custom = "type               custom-input\n                config             (text/toml)\n" + inner
    text = EXAMPLE.replace("type               events\n", custom, 1)
    output = '[[outputs.syslog]]\naddress = "udp://192.0.2.7:514"\n'
    text = text.replace("type    syslog\n", "type    custom-output\n                config  (text/toml)\n" + output)
    found = document(text)
    assert found["source"][0]["command"][-1] == "/srv/router1.index"
    assert found["source"][0]["tags"] == {"custom": "custom1", "site": "own", "rack": "r7"}
    assert found["remote-logging-server"][0]["address"] == "192.0.2.7"


def test_an_input_for_some_outputs_sends_nothing_to_the_others() -> None:
    text = EXAMPLE.replace("include-all-outputs  true", "include-all-outputs  false\n                    output  kafka")
    assert "remote-logging-server" not in document(text)
    assert 'output "syslog" gets events from no input that relay reads; ignored' in warned(text)[0]


def test_without_types_every_event_passes_and_without_a_true_type_none() -> None:
    begin = EXAMPLE.index("                event\n")
    end = EXAMPLE.index("                additional-config", begin)
    assert "tagpass" not in document(EXAMPLE[:begin] + EXAMPLE[end:])["source"][0]
    text = EXAMPLE.replace("admin         true", "admin false").replace("alarm         true", "alarm false")
    assert "source" not in document(text)
    assert any('input "events" has no event type that is true; ignored' in each for each in warned(text))


def test_the_profile_can_be_in_the_router_itself() -> None:
    inline = "                    tags site\n                        tag site\n                        value x\n"
    inline += "                    exit\n                    input events\n                    exit\n"
    found = document(EXAMPLE.replace("                    agent-config  my-agent\n", inline))
    assert found["source"][0]["tags"] == {"site": "x", "rack": "r7"}


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("sample-interval  10s", "flavour  sweet", "flavour"),
        ("push-interval        1s", "priority  high", "priority of input events"),
        ("enabled       true", "enabled       true\n                    colour red", "colour"),
        (
            "additional-config  (text/toml)\n",
            "additional-config  (text/toml)\n                    a = 1\n",
            "additional-config of input events",
        ),
    ],
)
def test_ignored_keys_are_in_the_warning_too(old: str, new: str, named: str) -> None:
    (warning,) = warned(EXAMPLE.replace(old, new, 1))
    assert PASSED_OVER in warning
    assert named in warning.partition("ignored: ")[2].split(", ")


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("alarm         true", "alarm         perhaps", "monitoring.input.alarm: must be true or false"),
        ("tcp://localhost:514", "localhost", 'address: must be as "udp://192.0.2.1:514"'),
        (
            "default-facility-code  20",
            "default-facility-code  99",
            "default_facility_code: must be a number from 0 to 23",
        ),
    ],
)
def test_a_wrong_value_is_a_mistake(old: str, new: str, mistake: str) -> None:
    (found,) = router_draft("router.cfg", EXAMPLE.replace(old, new, 1)).mistakes
    assert mistake in str(found)


# --- Other things of audit that were dropped without a word --------------------------------------------------


@pytest.mark.parametrize(
    ("where", "name"),
    [("traffic", "audit > traffic"), ("remote-logging-server 192.0.2.1 60", "audit > remote-logging-server")],
)
def test_an_unknown_leaf_of_an_audit_section_is_a_warning(where: str, name: str) -> None:
    audit = f"system\n    audit\n        {where}\n            colour red\n        exit\n    exit\nexit\n"
    assert warned("router r\n" + re.sub(r"^", "    ", audit, flags=re.MULTILINE)) == [
        f"router.cfg:5: {name} > colour: relay has no such setting; ignored"
    ]


def test_an_unknown_leaf_of_a_port_forwarding_is_a_warning() -> None:
    text = "router r\n    node n\n        port-forwarding 127.0.0.1 7777 lo\n            server-address 192.0.2.1\n"
    assert warned(text + "            colour red\n        exit\n    exit\nexit\n") == [
        "router.cfg:5: port-forwarding > colour: relay has no such setting; ignored"
    ]
