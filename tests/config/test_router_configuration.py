"""A router's own configuration: the vendor's examples word for word, and further parts of real ones."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.config.configuration import Configuration, read_configuration, read_settings
from relay.config.intended_program import require_program
from relay.config.router.recognition import is_router_text
from relay.config.router.router_choice import ANY, RouterChoice
from relay.config.router.router_draft import router_draft
from relay.errors import ConfigurationError, UsageError
from relay.values.configuration.source_settings import EventCollectorSource

EXAMPLES = Path(__file__).parent / "ssr"
AUDIT_LOG = {"name": "audit", "type": "audit-log"}
SECURE = ("secure-transport-port-forwarding", "secure-transport-server")
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "router.cfg") -> str:
        Path(name).write_text(text)
        return name

    return write


def example(name: str) -> str:
    return (EXAMPLES / f"{name}.cfg").read_text()


def document(*names: str, choice: RouterChoice = ANY) -> dict[str, Any]:
    """The document of examples that are all in one file."""
    draft = router_draft("router.cfg", "".join(map(example, names)), choice)
    assert draft.mistakes == []
    assert draft.warnings == []
    return draft.document


def within(audit: str, syslog: str = "", node: str = "") -> str:
    """A router's configuration with these lines in its sections."""
    return f"""\
config
    authority
        router r
            name r
            node n
                name n
                {node}
            exit
            system
                audit
                    {audit}
                exit
                syslog
                    {syslog}
                exit
            exit
        exit
    exit
exit
"""


def mistakes_in(text: str) -> list[str]:
    return [str(mistake) for mistake in router_draft("router.cfg", text).mistakes]


def warned(text: str) -> list[str]:
    draft = router_draft("router.cfg", text)
    assert draft.mistakes == []
    return [str(warning) for warning in draft.warnings]


# --- The vendor's examples, word for word ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("basic-audit-logging", {"audit": {"administration": {"enabled": True}}}),
        ("disk-full-action", {"audit": {"disk-full-action": "halt"}}),
        ("retention", {"audit": {"retention": "1d"}}),
        ("traffic-to-syslog", {"audit": {"traffic": {"enabled": True, "persist": False}}}),
    ],
)
def test_the_vendors_examples_mean_what_the_router_does(name: str, expected: dict[str, Any]) -> None:
    assert document(name) == {"relay": {"router": "my-router"}, **expected}


def test_a_remote_logging_server_uses_the_auditd_protocol() -> None:
    server = {"address": "1.1.1.1", "port": 60, "protocol": "auditd"}
    assert document("remote-logging") == {"relay": {"router": "Fabric128"}, "remote-logging-server": [server]}


def test_secure_transport_is_a_port_forwarding_and_the_server_at_its_local_end() -> None:
    assert document(*SECURE) == {
        "relay": {"router": "combo1", "node": "test1"},
        "port-forwarding": [
            {
                "local-address": "127.0.0.1",
                "local-port": 7777,
                "remote-host": "127.0.0.1",
                "remote-port": 9999,
                "server-address": "172.18.4.99",
                "server-port": 22,
            }
        ],
        "remote-logging-server": [{"address": "127.0.0.1", "port": 7777, "protocol": "auditd"}],
    }


def test_the_server_is_delivered_through_the_port_forwarding() -> None:
    """Read as files, in either order, and as `relay run -c` reads them."""
    files = [str(EXAMPLES / f"{name}.cfg") for name in SECURE]
    for order in (files, files[::-1]):
        settings = read_settings(order)
        (server,) = settings.remote_logging_server
        forwarding = settings.forwarding_of(server)
        assert forwarding is not None
        assert (forwarding.server_address, server.protocol) == ("172.18.4.99", "auditd")
        assert [(source.name, source.type) for source in settings.source] == [("audit", "audit-log")]


def test_every_example_is_recognised_by_its_content() -> None:
    files = sorted(EXAMPLES.glob("*.cfg"))
    assert len(files) == 10
    assert all(is_router_text(file.read_text()) for file in files)


PART = "is a part of a router's configuration; save all of it, from `config` on (`show config running`)"


@pytest.mark.parametrize(
    "text",
    [
        "admin@test1.Fabric128 (syslog)# show\nfacility  any\nserver 192.0.2.8 514\n    port 514\nexit\n",
        "admin@test1.Fabric128# show config running authority router r system audit\n\nretention 1d\n",
        "(syslog)# protocol tls\n",
        "remote-logging-server  1.1.1.1 60\n    address  1.1.1.1\nexit\n",
        "audit\n    retention 1d\nexit\n",
    ],
)
def test_a_part_of_a_configuration_is_reported_as_a_part(write: Write, text: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        read_settings([write(text)])
    assert wrong.value.mistakes == (f"router.cfg: {PART}",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"authority": {"router": []}}', "is JSON, which relay does not read"),
        ("{% editgroup %}\n{}\n", "is a template, which relay does not read"),
        ('<?xml version="1.0"?>\n<config/>\n', "is XML, which relay does not read"),
        ("  1 config\n  2     authority\n", "is a router's configuration with other text before each of its lines"),
        ("> config\n>\n>     authority\n", "is a router's configuration with other text before each of its lines"),
        ("+config\n+    authority\n", "is a router's configuration with other text before each of its lines"),
    ],
)
def test_another_form_is_reported_with_the_command_that_prints_the_right_one(
    write: Write, text: str, sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        read_settings([write(text)])
    (mistake,) = wrong.value.mistakes
    assert mistake.startswith(f"router.cfg: {sentence}; ")
    assert mistake.endswith("save the output of `show config running` unchanged")


@pytest.mark.parametrize("text", ["audit = \n", "[audit\n", "retention 1d\n", "user@host = 1 # 2\nx\n"])
def test_a_broken_toml_text_is_not_taken_for_a_part_of_a_routers_configuration(write: Write, text: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        read_settings([write(text)])
    assert "is not TOML" in wrong.value.mistakes[0]


# --- Several routers, several nodes, and all the rest of a real one ----------------------------------------


def test_everything_else_is_skipped_in_silence() -> None:
    edge = document("two-routers", choice=RouterChoice("edge", "edge-a"))
    assert edge == {
        "relay": {"router": "edge", "node": "edge-a"},
        "audit": {
            "retention": "30d",
            "disk-full-action": "ignore",
            "administration": {"enabled": True, "persist": False},
            "security": {"enabled": False},
            "system": {"persist": False},
        },
        "port-forwarding": [
            {
                "local-address": "127.0.0.1",
                "local-port": 7777,
                "remote-host": "127.0.0.1",
                "remote-port": 9999,
                "server-address": "172.18.4.99",
                "server-port": 2222,
            }
        ],
        "remote-logging-server": [{"address": "127.0.0.1", "port": 7777, "protocol": "auditd"}],
    }


def test_ten_thousand_other_lines_are_skipped_in_silence() -> None:
    service = "        service  s{0}\n            name  s{0}\n            scope  private\n"
    service += "            address  10.0.0.0/8\n        exit\n"
    head, tail = example("two-routers").split("        conductor-address", 1)
    text = head + "".join(service.format(number) for number in range(2000)) + "        conductor-address" + tail
    draft = router_draft("router.cfg", text, RouterChoice("edge", "edge-b"))
    assert (draft.mistakes, draft.warnings) == ([], [])
    assert draft.document["port-forwarding"][0]["server-address"] == "172.18.4.100"


@pytest.mark.parametrize(
    ("choice", "mistake"),
    [
        (
            ANY,
            (
                'router.cfg: has 2 routers: "edge", "hub"; choose one with `--router NAME`, or with `router` '
                "in [relay] of a further file"
            ),
        ),
        (RouterChoice("spoke"), 'router.cfg: has no router "spoke"; it has "edge", "hub"'),
        (
            RouterChoice("edge"),
            (
                'router.cfg: has 2 nodes: "edge-a", "edge-b"; choose one with `--node NAME`, or with `node` in '
                "[relay] of a further file"
            ),
        ),
        (RouterChoice("edge", "c"), 'router.cfg: has no node "c"; it has "edge-a", "edge-b"'),
        (RouterChoice("hub", "c"), "router.cfg: has no node; save all of it, from `config` on"),
    ],
)
def test_the_router_and_the_node_must_be_chosen_when_there_are_several(choice: RouterChoice, mistake: str) -> None:
    assert [str(each) for each in router_draft("router.cfg", example("two-routers"), choice).mistakes] == [mistake]


def test_a_further_file_can_choose_the_router(write: Write) -> None:
    router = write(example("two-routers"))
    settings = read_settings([router, write("[relay]\nrouter = 'edge'\nnode = 'edge-b'\n", "relay.toml")])
    assert settings.relay.node == "edge-b"
    assert settings.port_forwarding[0].server_address == "172.18.4.100"
    assert (
        read_settings([router, "relay.toml"], RouterChoice(node="edge-a")).port_forwarding[0].server_address
        == "172.18.4.99"
    )


def test_no_node_needs_to_be_chosen_when_none_has_a_port_forwarding() -> None:
    node = "            node m\n            exit\n"
    text = within("retention 1d").replace("            system", node + "            system", 1)
    assert router_draft("x", text).document == {"relay": {"router": "r"}, "audit": {"retention": "1d"}}
    assert router_draft("x", text, RouterChoice(node="m")).document["relay"] == {"router": "r", "node": "m"}


def test_a_choice_without_a_routers_file_is_a_usage_error(write: Write) -> None:
    with pytest.raises(UsageError, match="none of the files is a router's own configuration"):
        read_settings([write("[relay]", "relay.toml")], RouterChoice("edge"))


# --- What a further file adds ------------------------------------------------------------------------------


def both(write: Write, toml: str, *, router_first: bool = True) -> Configuration:
    files = [write("".join(map(example, SECURE))), write(toml, "relay.toml")]
    return read_configuration(files if router_first else files[::-1])


@pytest.mark.parametrize("router_first", [True, False])
def test_user_and_keys_come_from_a_further_file(write: Write, router_first: bool) -> None:
    toml = "[[port-forwarding]]\nusername = 'audit'\nprivate-key = '/srv/key'\n"
    settings = both(write, toml, router_first=router_first).settings
    (forwarding,) = settings.port_forwarding
    assert (forwarding.server_address, forwarding.username) == ("172.18.4.99", "audit")
    assert forwarding.private_key == "/srv/key"


def test_a_further_file_can_change_the_protocol_and_name_the_server(write: Write) -> None:
    toml = "[[remote-logging-server]]\nname = 'central'\nprotocol = 'syslog'\n[[remote-logging-server]]\nport = 9\n"
    configuration = both(write, toml)
    assert [(s.display_name, s.protocol) for s in configuration.settings.remote_logging_server] == [
        ("central", "syslog"),
        ("127.0.0.1:9", "syslog"),
    ]
    assert ("remote-logging-server", 0, "protocol") not in configuration.notes
    assert configuration.notes["remote-logging-server", 0, "port"] == "router.cfg:26"


def test_a_source_of_a_further_file_replaces_the_implied_source(write: Write) -> None:
    settings = both(write, "[[source]]\nname = 'other'\npath = '/srv/audit.log'\n").settings
    assert [source.name for source in settings.source] == ["other"]
    assert both(write, "source = []\n").settings.source == ()


def test_an_event_collector_of_a_further_file_keeps_the_implied_audit_log(write: Write) -> None:
    toml = "[[source]]\nname = 'events'\ntype = 'event-collector'\ncommand = ['/bin/true']\n"
    assert [source.name for source in both(write, toml).settings.source] == ["events", "audit"]
    assert [source.name for source in both(write, toml.replace("events", "audit")).settings.source] == ["audit"]


def test_traffic_that_a_router_enables_needs_a_source_and_the_warning_names_it(write: Write) -> None:
    """The router's configuration has `traffic > enabled true`; auditd's log has no such events."""
    file = write(within("traffic\n                        enabled true\n                    exit"))
    (warning,) = read_configuration([file]).warnings
    assert warning.location.line == 12
    assert warning.sentence.startswith("traffic events are enabled, and no source delivers them; add a [[source]] with")


def test_a_routers_configuration_is_rejected_by_the_receiver(write: Write) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        require_program(read_configuration([write(within("retention 1d"))]), "receive")
    of_a_router = "it is the configuration of a router or a Monitoring Agent, and has no [receiver]"
    assert wrong.value.mistakes == (f"router.cfg is for `relay run`: {of_a_router}",)


def test_the_mistake_of_an_unknown_port_forwarding_names_its_local_end(write: Write) -> None:
    (mistake,) = mistakes_of(write, "[[port-forwarding]]\nlocal-port = 7000\nusername = 'audit'\n")
    assert mistake == (
        "relay.toml:2: port-forwarding[1].local-port: no port-forwarding in router.cfg has local-port 7000, only "
        "127.0.0.1:7777 (router.cfg:6); correct it, or give it a server-address to add another port-forwarding"
    )
    (mistake,) = mistakes_of(write, "[[port-forwarding]]\nlocal-address = '127.0.0.2'\n", router_first=False)
    assert "no port-forwarding in router.cfg has local-address 127.0.0.2 and local-port 7777, only" in mistake


def test_tables_that_complete_each_other_keep_their_own_mistakes(write: Write) -> None:
    """A forwarding without a server, and certificates for a server without TLS, each from two files."""
    first = write("[[port-forwarding]]\nusername = 'a'\n[[remote-logging-server]]\nport = 9\n", "first.toml")
    second = "[[port-forwarding]]\nlocal-port = 7777\n[[remote-logging-server]]\nport = 9\nca = '/srv/ca'\n"
    with pytest.raises(ConfigurationError) as wrong:
        read_configuration([first, write(second, "second.toml")])
    forwarding, server = wrong.value.mistakes
    assert forwarding == "first.toml:1: port-forwarding[1].server-address: is required and missing"
    assert (
        server == 'second.toml:5: remote-logging-server[1].ca: has an effect with `transport = "tls"` only, not "tcp"'
    )


def test_values_of_a_wrong_type_do_not_hide_what_is_missing(write: Write) -> None:
    first = write("port-forwarding = [1]\n[[source]]\nname = 'a'\n", "first.toml")
    second = write(
        "[[port-forwarding]]\nlocal-address = 5\nlocal-port = [1]\n[[source]]\nfacility = 1\n", "second.toml"
    )
    with pytest.raises(ConfigurationError) as wrong:
        read_configuration([first, second])
    assert len(wrong.value.mistakes) == 5
    (mistake,) = [each for each in wrong.value.mistakes if "server-address" in each]
    assert "could complete" in mistake


def test_the_mistake_of_a_port_forwarding_that_completes_nothing_says_so(write: Write) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        read_configuration(
            [write(within("retention 1d")), write("[[port-forwarding]]\nusername = 'a'\n", "relay.toml")]
        )
    (mistake,) = wrong.value.mistakes
    assert mistake == (
        "relay.toml:1: port-forwarding[1]: no other file has a port-forwarding that this could complete; give it a "
        "server-address to add another port-forwarding"
    )


SYSLOG_BY_TLS = "server 192.0.2.7 6514\n                    protocol tls\n                exit"


def test_the_mistake_of_certificates_for_an_unknown_server_lists_the_known_servers(write: Write) -> None:
    toml = "[[remote-logging-server]]\naddress = '192.0.2.7'\nport = 6515\nca = '/srv/ca'\nfingerprint = 'sha-256:1'\n"
    with pytest.raises(ConfigurationError) as wrong:
        read_configuration(
            [write(within("retention 1d", SYSLOG_BY_TLS)), write(toml.partition("fingerprint")[0], "relay.toml")]
        )
    (mistake,) = wrong.value.mistakes
    assert mistake == (
        "relay.toml:3: remote-logging-server[1].port: no remote-logging-server in router.cfg has port 6515, only "
        '192.0.2.7:6514 (router.cfg:14); correct it, or give it `transport = "tls"` to add another server'
    )


def test_a_server_that_probably_should_complete_another_is_a_warning(write: Write) -> None:
    warnings = both(write, "[[remote-logging-server]]\nport = 7778\nprotocol = 'syslog'\n").warnings
    (warning,) = map(str, warnings)
    assert warning == (
        "relay.toml:2: remote-logging-server[1].port: no remote-logging-server in router.cfg has port 7778, only "
        "127.0.0.1:7777 (router.cfg:25); correct it, or give it a `name`: now it adds the server 127.0.0.1:7778"
    )
    assert both(write, "[[remote-logging-server]]\nport = 7778\nname = 'second'\n").warnings == ()
    assert both(write, "[[remote-logging-server]]\nport = 7777\nprotocol = 'syslog'\n").warnings == ()


def test_a_source_that_probably_should_complete_another_is_reported(write: Write) -> None:
    first = write("[[source]]\nname = 'events'\ntype = 'event-collector'\ncommand = ['/bin/true']\n", "first.toml")
    there = (
        'no source in first.toml has the name "evnts", only "events" (first.toml:1); correct it, or write its `type`'
    )
    with pytest.raises(ConfigurationError) as wrong:
        read_configuration(
            [first, write("[[source]]\nname = 'evnts'\nfacility = 'local0'\nseverity = 'info'\n", "relay.toml")]
        )
    assert wrong.value.mistakes == (f"relay.toml:2: source[1].name: {there} to add another source",)
    (warning,) = read_configuration([first, write("[[source]]\nname = 'evnts'\n", "relay.toml")]).warnings
    assert str(warning) == (
        f"relay.toml:2: source[1].name: {there}: now it adds a source that follows /var/log/audit/audit.log"
    )


def mistakes_of(write: Write, toml: str, *, router_first: bool = True) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as wrong:
        both(write, toml, router_first=router_first)
    return wrong.value.mistakes


# --- Syslog ------------------------------------------------------------------------------------------------

ROUTERS_OWN = (
    "with it a router sends its own messages; relay's events are the router's own, so relay sends all of them, with "
    "their own facilities"
)
NO_OCSP = (
    "relay does not check whether a certificate was revoked; set `fingerprint` in a further file to accept one "
    "certificate only"
)


def lines(*lines: str, depth: int = 20) -> str:
    """Lines for `within`, whose own indentation comes before the first."""
    return ("\n" + " " * depth).join(lines)


def syslog_server(*lines_of_it: str) -> dict[str, Any]:
    """The first server of a syslog section with these lines, without what each has."""
    draft = router_draft("router.cfg", within("retention 1d", lines(*lines_of_it)))
    assert draft.mistakes == []
    return {
        key: value
        for key, value in draft.document["remote-logging-server"][0].items()
        if key not in {"address", "port", "protocol"}
    }


@pytest.mark.parametrize(
    ("choice", "keys"),
    [
        (("facility any", "severity info"), {"severity": "info"}),  # the vendor's example
        (("facility any",), {}),
        (("facility auth", "severity emergency"), {"facilities": ["auth"], "severity": "emerg"}),
        (("facility audit", "severity alert"), {"facilities": ["audit"], "severity": "alert"}),
        (("severity critical",), {"severity": "crit"}),
        (("severity error",), {"severity": "err"}),
        (("severity notice",), {"severity": "notice"}),
        (("severity trace",), {"severity": "debug"}),
        (("facility local3", "severity warning"), {"severity": "warning"}),
    ],
)
def test_facility_and_severity_select_the_messages_of_a_syslog_server(
    choice: tuple[str, ...], keys: dict[str, Any]
) -> None:
    assert syslog_server("server 192.0.2.8", *choice) == {"transport": "udp", **keys}


def test_a_routers_own_facility_selects_nothing_and_a_warning_says_so() -> None:
    """`local0` is a router's default facility; none of relay's events has it."""
    text = within("retention 1d", lines("facility local3", "server 192.0.2.8", "server 192.0.2.9"))
    assert warned(text) == [f'router.cfg:14: facility "local3": {ROUTERS_OWN}']


def test_a_syslog_servers_own_settings_win_over_those_of_its_section() -> None:
    keys = syslog_server(
        "facility kern",
        "severity alert",
        "protocol udp",
        "server 192.0.2.8 601",
        "    protocol tcp",
        "    filter users",
        "        facility auth",
        "        severity notice",
        "    exit",
        "    filter daemons",
        "        facility daemon",
        "        severity notice",
        "    exit",
        "exit",
    )
    assert keys == {"transport": "tcp", "facilities": ["auth", "daemon"], "severity": "notice"}


def test_filters_beyond_facilities_and_one_severity_are_warnings() -> None:
    text = within(
        "retention 1d",
        lines(
            "server 192.0.2.8 601",
            "    colour red",
            "    filter users",
            "        facility auth",
            "        severity notice",
            "        match root",
            "    exit",
            "    filter daemons",
            "        facility daemon",
            "        severity error",
            "    exit",
            "exit",
        ),
    )
    assert warned(text) == [
        "router.cfg:15: syslog > server > colour: relay has no such setting; ignored",
        "router.cfg:19: syslog > server > filter > match: relay has no such setting; ignored",
        'router.cfg:18: relay has one severity for a server: "notice", the least severe of its filters',
    ]


KEYS_IN_FILES = (
    "relay takes private keys from files only; put its key into /etc/relay/client-certificate-edge-client.key "
    "with mode 0600, or name another file with `private-key`"
)


def test_syslog_servers_over_tls_have_the_certificates_of_the_text() -> None:
    draft = router_draft("router.cfg", example("syslog-over-tls"))
    assert draft.mistakes == []
    first, second = draft.document["remote-logging-server"]
    ca, certificate = (first.pop(key).splitlines() for key in ("ca", "certificate"))
    assert first == {
        "address": "192.0.2.8",
        "port": 6514,
        "protocol": "syslog",
        "transport": "tls",
        "severity": "warning",
        "private-key": "/etc/relay/client-certificate-edge-client.key",
    }
    assert second["address"] == "192.0.2.9"
    assert ca[1] == "MIIBszCCAVmgAwIBAgIUEXAMPLEONLYEXAMPLEONLYEXAMPLE"
    assert certificate[1] == "MIIBtDCCAVqgAwIBAgIUANOTHEREXAMPLEANOTHEREXAMPLEE"
    assert {ca[0], certificate[0]} == {"-----BEGIN CERTIFICATE-----"}
    assert [str(warning) for warning in draft.warnings] == [
        f'router.cfg:13: client-certificate "edge-client": {KEYS_IN_FILES}',
        f'router.cfg:27: facility "local0": {ROUTERS_OWN}',
        f"router.cfg:31: ocsp: {NO_OCSP}",
    ]


def test_a_text_that_was_pasted_twice_has_each_certificate_once() -> None:
    text = example("syslog-over-tls")
    once, twice = (router_draft("router.cfg", pasted) for pasted in (text, text + text))
    assert once.document["remote-logging-server"][0]["ca"]
    assert (twice.document, twice.mistakes) == (once.document, [])


def test_a_private_key_in_a_routers_text_stays_there() -> None:
    certificate = "-----END CERTIFICATE-----"
    key = "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----"
    text = example("syslog-over-tls").replace(certificate, f"{certificate}\n\n{key}")
    draft = router_draft("router.cfg", text)
    assert draft.mistakes == []
    assert "SECRET" not in repr((draft.document, draft.notes, draft.warnings))


def test_syslog_is_udp_and_port_514_by_default() -> None:
    text = within("retention 1d", "facility any\n                    server 192.0.2.8")
    draft = router_draft("router.cfg", text)
    assert (draft.mistakes, draft.warnings) == ([], [])
    assert draft.document["remote-logging-server"] == [
        {"address": "192.0.2.8", "port": 514, "protocol": "syslog", "transport": "udp"}
    ]
    assert load_text(text).remote_logging_server[0].transport == "udp"


def test_the_default_port_with_tls_is_6514() -> None:
    text = within("retention 1d", "protocol tls\n                    server 192.0.2.8")
    (server,) = router_draft("router.cfg", text).document["remote-logging-server"]
    assert (server["transport"], server["port"]) == ("tls", 6514)


def load_text(text: str) -> Any:
    draft = router_draft("router.cfg", text)
    from relay.values.configuration.settings import Settings

    return Settings.model_validate(draft.document)


def test_a_mistake_of_the_section_is_reported_once_for_all_its_servers() -> None:
    text = within("retention 1d", lines("protocol x", "severity y", "server 192.0.2.8", "server 192.0.2.9"))
    assert [mistake.partition(":")[2].partition(": must")[0] for mistake in mistakes_in(text)] == [
        "14: syslog.protocol",
        "15: syslog.severity",
    ]


@pytest.mark.parametrize(
    ("syslog", "mistake"),
    [
        (
            "protocol relp\n                    server 1.1.1.1 514",
            '14: syslog.protocol: must be udp, tcp or tls, not "relp"',
        ),
        (
            "facility locale\n                    server 1.1.1.1 514",
            (
                "14: syslog.facility: must be any or one of kern, user, mail, daemon, auth, syslog, lpr, news, uucp, "
                "cron, authpriv, ftp, ntp, audit, alert, clock, local0, local1, local2, local3, local4, local5, "
                'local6, local7, not "locale"'
            ),
        ),
        (
            "severity loud\n                    server 1.1.1.1 514",
            (
                "14: syslog.severity: must be emergency, alert, critical, error, warning, notice, info, debug or "
                'trace, not "loud"'
            ),
        ),
        (
            "protocol tls\n                    client-certificate-name x\n                    server 1.1.1.1 514",
            '15: there is no client-certificate "x" in this text',
        ),
        (
            "server 1.1.1.1 514\n                        port 515\n                    exit",
            '15: remote-logging-server[1].port: is "515" here, and "514" in line 14; remove one of them',
        ),
    ],
)
def test_mistakes_of_syslog(syslog: str, mistake: str) -> None:
    assert mistakes_in(within("retention 1d", syslog)) == [f"router.cfg:{mistake}"]


def test_a_client_certificate_can_belong_to_one_router() -> None:
    text = example("syslog-over-tls")
    begin, end = text.index("        client-certificate "), text.index("        router ")
    certificate = re.sub("^ ", "     ", text[begin:end], flags=re.MULTILINE)
    draft = router_draft(
        "router.cfg", text[:begin] + text[end:].replace("            system", certificate + "            system", 1)
    )
    assert draft.mistakes == []
    assert (
        "MIIBtDCCAVqgAwIBAgIUANOTHEREXAMPLEANOTHEREXAMPLEE" in draft.document["remote-logging-server"][0]["certificate"]
    )


def test_certificates_can_be_in_quotes() -> None:
    text = example("syslog-over-tls").replace("content  (text/plain)", 'content  "')
    text = text.replace("-----END CERTIFICATE-----", '-----END CERTIFICATE-----"')
    draft = router_draft("router.cfg", text)
    assert draft.mistakes == []
    assert draft.document == router_draft("router.cfg", example("syslog-over-tls")).document


UNCLOSED = 'the quoted value that begins here does not end; close it with a `"`, or remove the line'


# --- What is wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audit", "mistake"),
    [
        ("retention", '11: audit.retention: needs one value, not ""'),
        ("retention 1 d", '11: audit.retention: needs one value, not "1 d"'),
        ('retention "1d', f"11: {UNCLOSED}"),
        (
            "retention 1d\n                    retention 2d",
            '12: audit.retention: is "2d" here, and "1d" in line 11; remove one of them',
        ),
        (
            "traffic\n                        enabled yes\n                    exit",
            '12: audit.traffic.enabled: must be true or false, not "yes"',
        ),
        ("remote-logging-server 1.1.1.1", "11: remote-logging-server[1]: port is required and missing"),
        ("remote-logging-server", "11: remote-logging-server[1]: address is required and missing"),
        (
            "remote-logging-server 1.1.1.1 syslog",
            '11: remote-logging-server[1].port: must be a number, not "syslog"',
        ),
    ],
)
def test_a_mistake_has_its_line_and_its_key(audit: str, mistake: str) -> None:
    assert mistakes_in(within(audit)) == [f"router.cfg:{mistake}"]


@pytest.mark.parametrize(
    ("audit", "mistake"),
    [
        (
            "retention 1y",
            '11: audit.retention: "1y" is not a duration; write a number and a unit, as in "10ms", "90s", "24h"',
        ),
        ("disk-full-action panic", '11: audit.disk-full-action: must be "halt", "rotate" or "ignore", not "panic"'),
        ("remote-logging-server 1.1.1.1 0", "11: remote-logging-server[1].port: must be from 1 to 65535, not 0"),
        ("remote-logging-server 1.2.3.4.5 60", '11: remote-logging-server[1].address: "1.2.3.4.5" is not a host name'),
    ],
)
def test_a_value_that_the_settings_reject_has_the_routers_line(write: Write, audit: str, mistake: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        read_settings([write(within(audit))])
    (found,) = wrong.value.mistakes
    assert found.startswith(f"router.cfg:{mistake}")


def test_a_port_forwarding_without_its_server_address_is_a_mistake(write: Write) -> None:
    text = example(SECURE[0]).replace("                    server-address 172.18.4.99 \n", "")
    with pytest.raises(ConfigurationError) as wrong:
        read_settings([write(text)])
    assert wrong.value.mistakes == ("router.cfg:6: port-forwarding[1].server-address: is required and missing",)


def test_a_port_forwarding_to_the_other_node_is_a_warning_too() -> None:
    text = within(
        "retention 1d",
        node="port-forwarding 127.0.0.1 7777 lo0\n" + " " * 20 + "server-destination ha-node\n" + " " * 16 + "exit",
    )
    sentence = "relay needs a server-address: it cannot find the other node as the router does"
    assert warned(text) == [f"router.cfg:8: port-forwarding[1]: {sentence}"]


def test_the_same_value_twice_is_not_a_mistake() -> None:
    assert mistakes_in(within("retention 1d\n                    retention 1d")) == []


def test_a_setting_that_relay_does_not_have_is_reported_once() -> None:
    assert warned(within("colour red\n                    colour blue")) == [
        "router.cfg:11: audit > colour: relay has no such setting; ignored"
    ]


def test_a_deleted_statement_has_no_effect() -> None:
    server = "remote-logging-server 1.1.1.1 60"
    text = within(lines(server, "    port 60", "exit", f"delete {server.replace(' ', ' force ', 1)}"))
    draft = router_draft("router.cfg", text)
    assert (draft.mistakes, "remote-logging-server" in draft.document) == ([], False)


@pytest.mark.parametrize(
    ("joined", "apart", "mistake"),
    [
        ("router  r1 name  r1", "router  r1\n            name  r1", 'router: "name r1"'),
        ("system audit", "system\n                audit", 'system: "audit"'),
        ("audit retention 1d", "audit\n                    retention 1d", 'audit: "retention 1d"'),
        ("traffic enabled true", "traffic\n                        enabled true", 'traffic: "enabled true"'),
        (
            "remote-logging-server 10.0.0.1 60 address 10.0.0.1",
            "remote-logging-server 10.0.0.1 60\n                        address 10.0.0.1",
            'remote-logging-server: "address 10.0.0.1"',
        ),
    ],
)
def test_two_statements_in_one_line_are_a_mistake(joined: str, apart: str, mistake: str) -> None:
    text = """\
config
    authority
        router  r1
            name  r1
            system
                audit
                    retention 1d
                    traffic
                        enabled true
                    exit
                    remote-logging-server 10.0.0.1 60
                        address 10.0.0.1
                    exit
                exit
            exit
        exit
    exit
exit
"""
    assert mistakes_in(text) == []
    at = text[: text.index(apart)].count("\n") + 1
    assert f"router.cfg:{at}: {mistake} must be in a line of its own" in mistakes_in(text.replace(apart, joined))


def test_a_router_or_node_without_a_name_is_a_mistake() -> None:
    text = "config\n    authority\n        router\n            system\n            exit\n        exit\n    exit\nexit\n"
    assert mistakes_in(text) == ["router.cfg:3: this router has no name; write the name in the same line"]
    text = within("retention 1d", node=lines("port-forwarding 127.0.0.1 7777 lo0", "    remote-port 9", "exit"))
    text = text.replace("node n\n                name n\n", "node\n")
    assert mistakes_in(text) == ["router.cfg:5: this node has no name; write the name in the same line"]


def test_a_text_without_a_router_is_a_mistake() -> None:
    assert mistakes_in("config\n    authority\n    exit\nexit\n") == [
        "router.cfg: has no router; save all of it, from `config` on"
    ]


def test_a_text_that_is_too_much_is_one_mistake() -> None:
    assert mistakes_in("config\n" * 200_001) == [
        "router.cfg:200001: has more than 200000 lines, more than any router's configuration"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[relay]\n",
        "relay.router = 'config'\n",
        "router = 'a'\n",
        "",
        "# config\n[relay]\n",
        "enabled: true\n",
        "config = 1\n",
        "[relay]\n# config\n# authority\nconfig = 1\n",
    ],
)
def test_toml_and_yaml_are_not_taken_for_a_routers_text(text: str) -> None:
    assert not is_router_text(text)


def test_a_prompt_before_the_configuration_is_ignored() -> None:
    text = "admin@node1.conductor1# show config running\n\n" + example("retention")
    assert is_router_text(text)
    assert router_draft("x", text).document["audit"] == {"retention": "1d"}


def test_an_import_of_both_is_one_configuration(write: Write) -> None:
    """The router's own audit trail, and its events by the Monitoring Agent's input."""
    agent = Path("agent")
    for folder in ("inputs", "outputs"):
        (agent / folder).mkdir(parents=True)
    for file in ("config.yaml", "inputs/traffic-events.conf", "outputs/my-syslog.conf"):
        text = (EXAMPLES / "monitoring" / file).read_text().replace("<ip>", "192.0.2.7")
        (agent / file).write_text(text)
    settings = read_settings([write(example("traffic-to-syslog")), "agent"])
    assert [source.name for source in settings.source] == ["traffic-events", "audit"]
    assert isinstance(settings.source[0], EventCollectorSource)
    (server,) = settings.remote_logging_server
    assert (server.transport, server.types) == ("udp", ("traffic",))
    assert settings.audit.traffic.enabled
