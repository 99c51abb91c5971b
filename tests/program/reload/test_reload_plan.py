"""The comparison of two configurations: which parts a reload keeps, exchanges, begins and ends."""

from typing import Any

import pytest

from relay.program.reload.reload_plan import Digests, PartChanges, ReloadPlan, compare, parts_of_receive, parts_of_run
from relay.values.configuration.settings import Settings

FORWARDING = {"server-address": "192.0.2.1", "local-port": 7777, "private-key": "/k/key", "known-hosts": "/k/hosts"}
DOCUMENT: dict[str, Any] = {
    "relay": {"hostname": "router1"},
    "source": [
        {"name": "audit"},
        {"name": "collector", "type": "event-collector", "command": ["/bin/collector"]},
    ],
    "port-forwarding": [FORWARDING, {**FORWARDING, "local-port": 7778, "private-key": "/k/other"}],
    "remote-logging-server": [
        {"name": "first", "port": 7777},
        {"name": "second", "port": 7778},
        {"name": "direct", "address": "192.0.2.9", "port": 6514, "transport": "tls", "ca": "/k/ca"},
    ],
    "receiver": {
        "listen": ["tcp://127.0.0.1:9999", "tcp://127.0.0.1:9998"],
        "tls": {"listen": "0.0.0.0:6514", "certificate": "/k/cert", "private-key": "/k/tls-key"},
        "ssh": {"listen": "0.0.0.0:2222", "host-key": "/k/host-key", "authorized-keys": "/k/authorized"},
    },
}
CONTENTS = dict.fromkeys(("/k/key", "/k/hosts", "/k/other", "/k/ca", "/k/cert", "/k/tls-key", "/k/host-key"), "1")


def changed(*path: str | int, to: object) -> dict[str, Any]:
    """The document with one value changed."""

    def change(value: Any, rest: tuple[str | int, ...]) -> Any:
        if not rest:
            return to
        if isinstance(value, list):
            at = int(rest[0])
            return [change(each, rest[1:]) if index == at else each for index, each in enumerate(value)]
        return {**value, rest[0]: change(value.get(rest[0], {}), rest[1:])}

    found = change(DOCUMENT, path)
    assert isinstance(found, dict)
    return found


def of_run(document: dict[str, Any], digests: Digests = CONTENTS) -> ReloadPlan:
    before = parts_of_run(Settings.model_validate(DOCUMENT), CONTENTS)
    return compare(before, parts_of_run(Settings.model_validate(document), digests))


def of_receive(document: dict[str, Any], digests: Digests = CONTENTS) -> ReloadPlan:
    before = parts_of_receive(Settings.model_validate(DOCUMENT), CONTENTS)
    return compare(before, parts_of_receive(Settings.model_validate(document), digests))


def test_the_same_configuration_changes_nothing_and_keeps_every_part() -> None:
    same = of_run(DOCUMENT)
    assert same.sentences == ()
    assert same.servers == PartChanges(kept=("first", "second", "direct"))
    assert same.sources == PartChanges(kept=("audit", "collector"))
    assert of_receive(DOCUMENT).sentences == ()


@pytest.mark.parametrize(
    ("path", "value", "sentences"),
    [
        (("remote-logging-server", 0, "max-message-size"), "16KiB", ["server first exchanged"]),
        (("remote-logging-server", 0, "start"), "now", []),
        (
            ("remote-logging-server", 0, "network-failure-timeout"),
            "1h",
            ["network-failure-action of server first changed"],
        ),
        (("remote-logging-server",), DOCUMENT["remote-logging-server"][:2], ["server direct ended"]),
        (("remote-logging-server", 0, "name"), "other", ["server first ended", "server other begun"]),
        (("source", 1, "tagdrop"), {"a": ["b"]}, ["source collector exchanged"]),
        (("source", 0, "name"), "log", ["source audit ended", "source log begun"]),
        (("audit", "audit-format"), "record", ["source audit exchanged", "audit.audit-format changed"]),
        (
            ("relay", "hostname"),
            "router2",
            ["source audit exchanged", "source collector exchanged", "relay.hostname changed"],
        ),
        (("audit", "retention"), "1d", ["audit.retention changed"]),
        (("audit", "traffic"), {"enabled": True}, ["audit.traffic changed"]),
        (("spool", "max-size"), "1GiB", ["spool.max-size changed"]),
        (("relay", "alarm-command"), ["/bin/report"], ["relay.alarm-command changed"]),
        (("metrics",), {"listen": "127.0.0.1:9465"}, ["metrics.listen changed"]),
        (("receiver", "expect"), [{"originator": "fw*", "within": "10m"}], []),
        (
            ("port-forwarding", 1, "username"),
            "auditor",
            ["server second exchanged", "port-forwarding 127.0.0.1:7778 exchanged"],
        ),
        (("port-forwarding", 1, "local-listener"), False, ["port-forwarding 127.0.0.1:7778 ended"]),
        (
            ("port-forwarding", 1),
            {**DOCUMENT["port-forwarding"][1], "local-socket": "/run/x", "local-users": ["root"]},
            ["port-forwarding 127.0.0.1:7778 ended", "port-forwarding /run/x begun"],
        ),
        (("receiver", "listen"), ["tcp://127.0.0.1:1"], []),
    ],
)
def test_a_changed_key_changes_the_parts_that_depend_on_it_and_no_other(
    path: tuple[str | int, ...], value: object, sentences: list[str]
) -> None:
    assert list(of_run(changed(*path, to=value)).sentences) == sentences


@pytest.mark.parametrize(
    ("file", "sentences"),
    [
        ("/k/other", ["server second exchanged", "port-forwarding 127.0.0.1:7778 exchanged"]),
        (
            "/k/hosts",
            [
                *("server first exchanged", "server second exchanged"),
                *("port-forwarding 127.0.0.1:7777 exchanged", "port-forwarding 127.0.0.1:7778 exchanged"),
            ],
        ),
        ("/k/ca", ["server direct exchanged"]),
        ("/k/cert", []),
    ],
)
def test_a_file_with_new_contents_at_the_same_path_exchanges_the_parts_that_use_it(
    file: str, sentences: list[str]
) -> None:
    assert list(of_run(DOCUMENT, {**CONTENTS, file: "2"}).sentences) == sentences


@pytest.mark.parametrize(
    ("path", "value", "sentences"),
    [
        (
            ("receiver", "listen"),
            ["tcp://127.0.0.1:9999", "tcp://127.0.0.1:9997"],
            ["listener tcp://127.0.0.1:9998 ended", "listener tcp://127.0.0.1:9997 begun"],
        ),
        (("receiver", "tls", "ca"), "/k/ca", ["certificate, private key and CA of [receiver.tls] read again"]),
        (
            ("receiver", "tls", "listen"),
            "0.0.0.0:6515",
            ["listener tls://0.0.0.0:6514 ended", "listener tls://0.0.0.0:6515 begun"],
        ),
        (
            ("receiver", "ssh", "authorized-keys"),
            "/k/more",
            ["host key and authorized keys of [receiver.ssh] read again"],
        ),
        (("source", 0, "name"), "log", []),
    ],
)
def test_a_receiver_keeps_the_listeners_whose_address_stays(
    path: tuple[str | int, ...], value: object, sentences: list[str]
) -> None:
    assert list(of_receive(changed(*path, to=value)).sentences) == sentences


def test_a_receiver_expects_what_a_reload_names() -> None:
    expect = [{"originator": "fw*", "within": "10m"}]
    assert of_receive(changed("receiver", "expect", to=expect)).sentences == ("receiver.expect changed",)


def test_a_receiver_shows_new_keys_and_certificates() -> None:
    assert of_receive(DOCUMENT, {**CONTENTS, "/k/host-key": "2"}).sentences == (
        "host key and authorized keys of [receiver.ssh] read again",
    )
    assert of_receive(DOCUMENT, {**CONTENTS, "/k/tls-key": "2"}).sentences == (
        "certificate, private key and CA of [receiver.tls] read again",
    )


def test_what_cannot_change_while_a_program_runs_is_named() -> None:
    assert of_run(changed("relay", "state-directory", to="/elsewhere")).fixed.exchanged == ("relay.state-directory",)
    assert of_receive(changed("receiver", "archive", to="/elsewhere")).fixed.exchanged == ("receiver.archive",)
    assert of_run(changed("receiver", "archive", to="/elsewhere")).fixed.exchanged == ()
