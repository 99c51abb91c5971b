"""The router's configuration text as sections, and the remarks about a text with oddities."""

import os
import random
import sys
import time
from collections.abc import Callable
from types import FrameType

import pytest

from relay.config.router.quoted_values import LONGEST, words
from relay.config.router.router_draft import router_draft
from relay.config.router.router_text import DEEPEST, MOST_LINES, TooMuchError, parse
from relay.config.router.section import Section


def audit(text: str) -> Section:
    return parse(text).root.section("config").section("audit")


def remarks(text: str) -> list[tuple[int, str]]:
    return [(remark.line, remark.sentence) for remark in parse(text).remarks]


def mistakes(text: str) -> list[tuple[int, str]]:
    return [(mistake.line, mistake.sentence) for mistake in parse(text).mistakes]


def value(section: Section, name: str) -> str:
    (leaf,) = section.leaves(name)
    return leaf.rest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", ("a", "b")),
        ("a \t  b", ("a", "b")),
        ('"a b" c', ("a b", "c")),
        (r'"say \"no\" \\"', (r'say "no" \ '.strip(),)),
        ('""', ("",)),
        ('"not closed', ('"not', "closed")),
        ('"a"b', ('"a"b',)),
        ("", ()),
    ],
)
def test_values_are_separated_by_spaces_outside_quotes(text: str, expected: tuple[str, ...]) -> None:
    assert words(text) == expected


def in_config(*lines: str) -> str:
    """A text with these lines in it, the first of them line 3."""
    return "\n".join(("config", "    audit", *lines, "        retention 1d", "    exit", "exit", ""))


UNCLOSED = 'the quoted value that begins here does not end; close it with a `"`, or remove the line'


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        (('        note "', '"', '        other "', '"'), ("\n",)),  # a line that ends one value could begin another
        (('        note "a', 'b"'), ("a\nb",)),
        (('        note  "', "", "    traffic", "  here", '"  '), ("\n\n    traffic\n  here\n",)),
        (
            ('        note one "a', r"say \"no\" \\", 'b" two "c', '# d" "e"'),
            ("one", 'a\nsay "no" \\\nb', "two", "c\n# d", "e"),
        ),
        (('        note "a\r', 'b"\r'), ("a\nb",)),
    ],
)
def test_a_quoted_value_can_span_several_lines(lines: tuple[str, ...], values: tuple[str, ...]) -> None:
    text = in_config(*lines)
    assert (remarks(text), mistakes(text)) == ([], [])
    (leaf,) = audit(text).leaves("note")
    assert leaf.words == values
    assert [(leaf.rest, leaf.line) for leaf in audit(text).leaves("retention")] == [("1d", 3 + len(lines))]


@pytest.mark.parametrize(
    "lines",
    [
        ('        note "a',),
        ('        note "a', "        other b"),
        ('        note "a', '        other "b c"', "        last d"),  # the next quote begins a value, and ends none
        ('        note "a', *["        b"] * LONGEST, '        "'),
        ('        note "a', '        b" "c'),
    ],
)
def test_a_quote_that_does_not_close_is_a_mistake_and_swallows_nothing(lines: tuple[str, ...]) -> None:
    text = in_config(*lines)
    assert mistakes(text)[0] == (3, UNCLOSED)
    assert "1d" in [leaf.rest for leaf in parse(text).root.section("config").section("audit").leaves("retention")]


def test_a_quoted_value_of_a_thousand_lines_is_one() -> None:
    text = in_config('        note "a', *["b"] * (LONGEST - 2), '"')
    assert mistakes(text) == []
    assert len(audit(text).leaves("note")[0].text) == LONGEST


def test_a_quoted_value_that_spans_an_exit_is_a_remark() -> None:
    """The closing quote may be missing, and the next quote belong to another value."""
    text = in_config('        note "a', "    exit", 'b"')
    assert remarks(text) == [
        (3, "the quoted value that begins here ends in line 5, behind an `exit`; is its closing quote missing?")
    ]


def test_tabs_blank_lines_windows_line_ends_and_trailing_spaces_change_nothing() -> None:
    text = "config  \r\n\r\n\taudit\r\n\t\tretention \t 1d  \r\n    \texit\r\n    exit\r\nexit\r\n"
    assert value(audit(text), "retention") == "1d"
    assert value(audit("config\n    audit\n\t\tretention 1d\n"), "retention") == "1d"


def test_a_leaf_without_a_value_is_not_a_section() -> None:
    """As in the Monitoring Agent's tags: `router` there means the router's own name."""
    text = "config\n    tags router\n        tag router\n        router\n    exit\n"
    text += "    audit\n        retention 1d\n    exit\nexit\n"
    assert remarks(text) == []
    assert value(audit(text), "retention") == "1d"


def test_an_empty_section_ends_at_its_own_exit() -> None:
    text = "config\n    traffic\n    exit\n    audit\n        retention 1d\n    exit\nexit\n"
    assert remarks(text) == []
    assert value(audit(text), "retention") == "1d"


def test_a_section_in_several_places_is_one() -> None:
    text = "config\n    audit\n        a 1\n    exit\n    audit\n        b 2\n    exit\nexit\n"
    text += "config\n    audit\n        c 3\n"
    assert [value(audit(text), name) for name in "abc"] == ["1", "2", "3"]


DIFFERENCE = (
    "this `delete` is from `compare config`, whose output lacks everything that did not change; save the output of "
    "`show config running`"
)


def test_delete_takes_back_an_earlier_statement() -> None:
    text = """\
config
    audit
        server 1 2
            port 2
        exit
        server 3 4
            port 4
        exit
        delete server force 1 2
        a 1
        delete a
        delete b force
        delete
    exit
exit
"""
    assert remarks(text) == [(9, DIFFERENCE)]
    assert list(audit(text).sections("server")) == [("3", "4")]
    assert audit(text).leaves("a") == []


def test_a_long_value_is_every_deeper_line_and_pem_block() -> None:
    text = """\
config
    audit
        note  (text/plain)
            exit
            first
                second
        cert  (text/plain)
-----BEGIN CERTIFICATE-----
exit
-----END CERTIFICATE-----
        gone  (text/toml)
    exit
    after  1
exit
"""
    assert remarks(text) == []
    assert audit(text).leaves("note")[0].text == ["exit", "first", "second"]
    assert len(audit(text).leaves("cert")[0].text) == 3
    assert audit(text).leaves("gone")[0].text == []
    assert value(parse(text).root.section("config"), "after") == "1"


def test_a_long_value_pasted_in_from_the_first_column_takes_nothing_with_it() -> None:
    text = """\
config
    monitoring
        output kafka
            additional-config  (text/toml)
version = "0.10.1.0"
[[outputs.kafka]]
  topic = "telegraf"
        exit
    exit
    audit
        retention 1d
    exit
exit
"""
    assert remarks(text) == []
    assert value(audit(text), "retention") == "1d"
    (kafka,) = parse(text).root.section("config").section("monitoring").sections("output").values()
    assert kafka.leaves("additional-config")[0].text == [
        'version = "0.10.1.0"',
        "[[outputs.kafka]]",
        'topic = "telegraf"',
    ]


def test_a_long_value_that_is_missing_takes_nothing_with_it() -> None:
    text = "config\n    note (text/plain)\n    audit\n        retention 1d\n    exit\nexit\n"
    assert remarks(text) == []
    assert value(audit(text), "retention") == "1d"
    assert value(audit(text.replace("    audit", "config\n    audit")), "retention") == "1d"


def test_a_long_value_can_be_announced_below_its_leaf() -> None:
    text = "config\n    cert\n        (text/plain)\n    mode warn\n    note\n        (text/toml)\n        a = 1\nexit\n"
    assert remarks(text) == []
    config = parse(text).root.section("config")
    assert [value(config, "cert"), value(config, "mode")] == ["(text/plain)", "warn"]
    assert config.leaves("note")[0].text == ["a = 1"]


def test_a_pem_block_that_does_not_end_takes_nothing_with_it() -> None:
    text = "config\n    cert (text/plain)\n        -----BEGIN CERTIFICATE-----\n    audit\n        retention 1d\n"
    assert remarks(text)[0] == (3, "this PEM block does not end")
    assert value(audit(text), "retention") == "1d"


UNINDENTED = """config
authority
router r
name r
security internal
system
log-level info
audit
retention 1d
traffic
enabled true
exit
exit
syslog
severity info
server 192.0.2.8 514
exit
exit
exit
exit
exit
exit
"""
LOST = "the text has lost its indentation, so its sections cannot be distinguished; save it as the router prints it"


def test_in_a_text_without_indentation_names_and_places_decide() -> None:
    assert (remarks(UNINDENTED), mistakes(UNINDENTED)) == ([], [])
    (router,) = parse(UNINDENTED).root.section("config").section("authority").sections("router").values()
    assert value(router, "security") == "internal"
    assert value(router.section("system").section("audit").section("traffic"), "enabled") == "true"
    assert list(router.section("system").section("syslog").sections("server")) == [("192.0.2.8", "514")]


@pytest.mark.parametrize(
    ("before", "foreign", "line"),
    [
        ("router r\n", "service web\nname web\nexit\n", 25),  # the text's last `exit` is one too much
        ("audit\n", "metrics\ninterval 1\nexit\n", 11),  # `audit` would be in the router itself
        ("syslog\n", "metrics\ninterval 1\nexit\n", 17),  # and so would `syslog`
    ],
)
def test_a_text_whose_sections_cannot_be_distinguished_is_a_mistake(before: str, foreign: str, line: int) -> None:
    """Unknown sections of a router have an `exit` as well."""
    assert mistakes(UNINDENTED.replace(before, foreign + before)) == [(line, LOST)]


def test_the_last_exit_can_be_missing_and_more_missing_ones_are_a_remark() -> None:
    text = "config\n    audit\n        retention 1d\n    exit\n"
    assert remarks(text) == []
    assert remarks(text + text) == []
    (remark,) = remarks("config\n    audit\n        retention 1d\n")
    assert remark == (3, "the text ends within `audit` of line 2; 2 times `exit` is missing. Was the text cut off?")


def test_the_lines_of_a_long_value_are_not_a_changed_indentation() -> None:
    """Its lines are deeper than the leaf, as those of a section are."""
    text = "config\n    audit\n        description (text/plain)\n            one\n            two\n    exit\nexit\n"
    assert remarks(text) == []
    assert [leaf.text for leaf in audit(text).leaves("description")] == [["one", "two"]]


@pytest.mark.parametrize("leaf", ["name edge", "retention 1d", 'description "the audit"'])
def test_lines_deeper_than_a_leaf_are_ignored_with_a_remark(leaf: str) -> None:
    """One line's indentation was changed."""
    name = leaf.split(maxsplit=1)[0]
    text = f"config\n    audit\n        {leaf}\n            traffic\n                enabled true\n            exit\n"
    text += "            other 1\n        more 1\n    exit\nexit\n"
    sentence = f'this line is indented deeper than "{name}" of line 3, which is not a section; it is ignored, with all '
    assert remarks(text) == [
        (4, f"{sentence}lines that follow at this depth. Was the indentation changed?"),
        (8, f"`{name}` of line 3 needs an `exit` before this line"),
    ]
    assert remarks(text.replace(leaf, "something else"))[1:] == []


def test_a_missing_exit_is_a_remark_and_the_depth_decides() -> None:
    text = "config\n    audit\n        traffic\n            enabled true\n        retention 1d\n    exit\nexit\n"
    assert remarks(text) == [(5, "`traffic` of line 3 needs an `exit` before this line")]
    assert value(audit(text), "retention") == "1d"


def test_a_superfluous_exit_is_a_remark_and_the_depth_decides() -> None:
    text = "config\n    audit\n        traffic\n            enabled true\n        exit\n        exit\n"
    text += "        retention 1d\n    exit\nexit\nexit\n"
    sentence = "no section of this depth is open for this `exit` to end; it is ignored"
    assert remarks(text) == [(6, sentence), (10, sentence)]
    assert value(audit(text), "retention") == "1d"


def test_limits_are_errors_with_a_line() -> None:
    with pytest.raises(TooMuchError) as lines:
        parse("a\n" * (MOST_LINES + 1))
    assert lines.value.line == MOST_LINES + 1
    with pytest.raises(TooMuchError) as levels:
        parse("\n".join(" " * depth + "a" for depth in range(DEEPEST + 2)))
    assert levels.value.line == DEEPEST + 1


# --- Lines that say their whole way -------------------------------------------------------------------------

WHOLE_WAYS = """
config authority router edge name         edge
config authority router edge description  "in
the cellar"
config authority router edge service-route web name  web

config authority router edge node node name  node
config authority router edge node node device-interface wan name  wan
config authority router edge node node port-forwarding 127.0.0.1 7777 lo0 local-address  127.0.0.1
config authority router edge node node port-forwarding 127.0.0.1 7777 lo0 server-port    22
config authority router edge node node port-forwarding 127.0.0.1 7778 server-port        2222

config authority router edge system log-level  info
config authority router edge system audit traffic enabled  true
config authority router edge system audit retention        1d
config authority router edge system audit remote-logging-server 1.1.1.1 60 port  60
config authority router edge system syslog server 192.0.2.8 514 filter port facility  kern
config authority router edge system syslog server 192.0.2.9 port  601
config authority trusted-ca-certificate ca content  (text/plain)
-----BEGIN CERTIFICATE-----
exit
-----END CERTIFICATE-----
config authority client-certificate "a b" content  "-----BEGIN CERTIFICATE-----
-----END CERTIFICATE-----
"
config authority client-certificate c validation-mode  warn
"""


def test_a_line_can_have_its_full_path() -> None:
    """As `show config running flat` prints each of them."""
    assert (remarks(WHOLE_WAYS), mistakes(WHOLE_WAYS)) == ([], [])
    authority = parse(WHOLE_WAYS).root.section("config").section("authority")
    (router,) = authority.sections("router").values()
    assert (router.line, value(router, "name"), router.leaves("description")[0].words) == (
        2,
        "edge",
        ("in\nthe cellar",),
    )
    forwardings = router.sections("node")["node",].sections("port-forwarding")
    assert [(keys, value(section, "server-port")) for keys, section in forwardings.items()] == [
        (("127.0.0.1", "7777", "lo0"), "22"),
        (("127.0.0.1", "7778"), "2222"),
    ]
    audit = router.section("system").section("audit")
    assert (value(audit, "retention"), value(audit.section("traffic"), "enabled")) == ("1d", "true")
    assert value(audit.sections("remote-logging-server")["1.1.1.1", "60"], "port") == "60"
    servers = router.section("system").section("syslog").sections("server")
    assert value(servers["192.0.2.8", "514"].sections("filter")["port",], "facility") == "kern"
    assert value(servers["192.0.2.9",], "port") == "601"
    assert len(authority.sections("trusted-ca-certificate")["ca",].leaves("content")[0].text) == 3
    certificates = authority.sections("client-certificate")
    assert certificates["a b",].leaves("content")[0].text[:2] == [
        "-----BEGIN CERTIFICATE-----",
        "-----END CERTIFICATE-----",
    ]
    assert value(certificates["c",], "validation-mode") == "warn"


@pytest.mark.parametrize(("outer", "inner"), [("", ""), ("    ", "    "), ("", "    ")])
def test_the_lines_below_a_full_path_to_a_section_are_in_it(outer: str, inner: str) -> None:
    """As users paste them into the router's command line."""
    way = "configure authority router r system audit\n"
    text = f"{way}{outer}retention 1d\n{outer}traffic\n{outer}{inner}enabled true\n{outer}exit\nexit\n"
    text += f"{way}{outer}remote-logging-server 1.1.1.1 60\n"
    assert (remarks(text), mistakes(text)) == ([], [])
    (router,) = parse(text).root.section("config").section("authority").sections("router").values()
    audit = router.section("system").section("audit")
    assert (value(audit, "retention"), value(audit.section("traffic"), "enabled")) == ("1d", "true")
    assert list(audit.sections("remote-logging-server")) == [("1.1.1.1", "60")]


def test_full_paths_and_sections_can_be_in_one_text() -> None:
    text = "config\n    authority\n        router r\n            name r\n        exit\n    exit\nexit\n"
    text = f"config authority router r remote-login\nconfig authority router s\n{text}"
    text += "config authority router r system audit retention 1d\n"
    assert remarks(text) == []
    router, other = parse(text).root.section("config").section("authority").sections("router").values()
    assert (value(router, "name"), value(router.section("system").section("audit"), "retention")) == ("r", "1d")
    assert list(other.names()) == []


def test_lines_outside_of_a_configuration_are_remarks_with_their_number() -> None:
    text = "Welcome to:\n    the router\nconfig\n    authority\n        router r\n        exit\n    exit\nexit\n"
    text += "logout\nbye\n"
    assert remarks(text) == [
        (1, "the configuration begins in line 3; relay ignores 2 lines before it"),
        (9, '"logout" is outside of the configuration; relay ignores 2 lines there'),
    ]


# --- What nobody would write -----------------------------------------------------------------------------

HOSTILE: dict[str, Callable[[int], str]] = {
    "deletes": lambda n: in_audit("a 1\n        delete a\n        " * n),
    "deletes of one": lambda n: in_audit("server 1 2\n        " * n + "delete server 3\n        " * n),
    "open PEM": lambda n: in_audit("x (text/plain)\n            -----BEGIN \n        " * n),
    "exits": lambda n: "config\n" + "exit\n" * n,
    "one leaf": lambda n: in_audit("retention 1d\n        " * n),
    "broken servers": lambda n: in_audit(
        "".join(f"remote-logging-server {i}\n            x\n        exit\n        " for i in range(n))
    ),
    "servers": lambda n: in_audit(
        "".join(f"remote-logging-server {i} 60\n            x\n        exit\n        " for i in range(n))
    ),
    "TLS servers": lambda n: (
        "config\n    router r\n        system\n            syslog\n                protocol tls\n"
        + "".join(
            f"                server 1.1.1.1 {i}\n                    x\n                exit\n" for i in range(n)
        )
        + "".join(f"trusted-ca-certificate {i}\n    content (text/plain)\n" for i in range(n))
    ),
    "deep": lambda n: "\n".join(" " * (i % (DEEPEST - 2)) + "a" for i in range(n)),
    "routers": lambda n: "config\n" + "".join(f"    router {i}\n        name {i}\n    exit\n" for i in range(n)),
    "open quotes": lambda n: in_audit('note "a\n        ' * n),
    "quotes that open after one that closes": lambda n: in_audit('note "\n' + 'a" "\n' * n),
    "quoted lines": lambda n: in_audit('note "' + '"a"\nb' * n),
    "letters that are quotes": lambda n: in_audit('note "a"b' + ' "a"b' * n),
    "whole ways": lambda n: "".join(
        f"config authority router r system audit remote-logging-server {i} 60 port 60\n" for i in range(n)
    ),
    "long ways": lambda n: "config authority router " + "r " * n + "\n",
    "prompts": lambda n: "a@b (c)# set d\n" * n + "config\n",
    "one prompt": lambda n: "@" * n + "a@b (" * n + "\nconfig\nauthority\n",
    "escapes": lambda n: "\x1b[" * n + "1" * n + "\x1b]" * n,
    "quotes": lambda n: in_audit('retention "' + '\\"' * n),
}


def in_audit(text: str) -> str:
    return f"config\n  router r\n    system\n      audit\n        {text}"


def calls(work: Callable[[], object]) -> int:
    count = 0

    def count_one(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(count_one)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_ten_times_the_text_is_at_most_twenty_times_the_work(kind: str) -> None:
    small, large = (HOSTILE[kind](n) for n in (200, 2000))
    assert calls(lambda: router_draft("x", large)) <= 20 * calls(lambda: router_draft("x", small))


PIECES = (
    *("config", "authority", "router r", "router s", "node n", "system", "audit", "syslog", "exit", "exit", "delete"),
    *("remote-logging-server 1.1.1.1 60", "port-forwarding 127.0.0.1 7777 lo0", "server 1.1.1.1 514", "protocol tls"),
    *("address 1.1.1.1", "port 60", 'name "r', "name r", "retention 1d", "traffic", "enabled maybe", "enabled true"),
    *("content (text/plain)", "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----", "trusted-ca-certificate a"),
    *(
        "client-certificate-name a",
        "config authority router r system audit",
        "config authority router r system audit remote-logging-server 1.1.1.1 60 port 60",
        "configure authority client-certificate a content (text/plain)",
        'note "a',
        'b"',
        'c" "',
        "admin@a.b (c)# set d",
        "--More--\r",
        "client-certificate a",
        "delete router force r",
        "\x00",
        "\x1b[2J",
        "\ud800",
        "é " * 9,
    ),
)


def test_no_text_makes_reading_fail() -> None:
    """Seeded. RELAY_FUZZ_SECONDS=300 in the environment is the long form (with `--timeout 0`)."""
    seconds = float(os.environ.get("RELAY_FUZZ_SECONDS", "1"))
    chance = random.Random(7)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = [chance.choice(("", "\t", "    ")) * chance.randrange(6) + chance.choice(PIECES) for _ in range(60)]
        text = "\n".join(lines)
        cut = text[: chance.randrange(len(text))] if chance.random() < 0.3 else text
        draft = router_draft("x", cut)
        assert set(draft.notes) <= set(draft.locations)
