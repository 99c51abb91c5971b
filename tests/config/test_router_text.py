"""The router's configuration text as sections: what stands where, and what is told of a text that is not right."""

import os
import random
import sys
import time
from collections.abc import Callable
from types import FrameType

import pytest

from relay.config.router.text import DEEPEST, MOST_LINES, Section, TooMuchError, parse, words
from relay.config.router.translation import draft_of


def audit(text: str) -> Section:
    return parse(text).root.section("config").section("audit")


def remarks(text: str) -> list[tuple[int, str]]:
    return [(remark.line, remark.sentence) for remark in parse(text).remarks]


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
def test_values_are_parted_by_spaces_outside_quotes(text: str, expected: tuple[str, ...]) -> None:
    assert words(text) == expected


def test_tabs_blank_lines_windows_line_ends_and_spaces_at_the_end_mean_nothing() -> None:
    text = "config  \r\n\r\n\taudit\r\n\t\tretention \t 1d  \r\n    \texit\r\n    exit\r\nexit\r\n"
    assert value(audit(text), "retention") == "1d"
    assert value(audit("config\n    audit\n\t\tretention 1d\n"), "retention") == "1d"


def test_a_leaf_without_a_value_is_no_section() -> None:
    """As in the Monitoring Agent's tags: `router` there means the router's own name."""
    text = "config\n    tags router\n        tag router\n        router\n    exit\n"
    text += "    audit\n        retention 1d\n    exit\nexit\n"
    assert remarks(text) == []
    assert value(audit(text), "retention") == "1d"


def test_a_section_without_anything_in_it_ends_at_its_own_exit() -> None:
    text = "config\n    traffic\n    exit\n    audit\n        retention 1d\n    exit\nexit\n"
    assert remarks(text) == []
    assert value(audit(text), "retention") == "1d"


def test_a_section_in_several_places_is_one() -> None:
    text = "config\n    audit\n        a 1\n    exit\n    audit\n        b 2\n    exit\nexit\n"
    text += "config\n    audit\n        c 3\n"
    assert [value(audit(text), name) for name in "abc"] == ["1", "2", "3"]


def test_delete_takes_back_what_stood_before_it() -> None:
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
    assert list(audit(text).sections("server")) == [("3", "4")]
    assert audit(text).leaves("a") == []


def test_a_long_value_is_all_that_is_deeper_or_pem() -> None:
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


def test_a_pem_block_that_does_not_end_takes_nothing_with_it() -> None:
    text = "config\n    cert (text/plain)\n        -----BEGIN CERTIFICATE-----\n    audit\n        retention 1d\n"
    assert remarks(text)[0] == (3, "this PEM block does not end")
    assert value(audit(text), "retention") == "1d"


def test_a_text_that_lost_its_indentation_goes_by_the_names_of_sections() -> None:
    text = "config\naudit\nretention 1d\ntraffic\nenabled true\nexit\nexit\nsyslog\nseverity info\nexit\nexit\n"
    assert remarks(text) == []
    assert value(audit(text).section("traffic"), "enabled") == "true"
    assert value(parse(text).root.section("config").section("syslog"), "severity") == "info"


def test_the_last_exit_may_be_missing_and_more_are_told() -> None:
    text = "config\n    audit\n        retention 1d\n    exit\n"
    assert remarks(text) == []
    assert remarks(text + text) == []
    (remark,) = remarks("config\n    audit\n        retention 1d\n")
    assert remark == (3, "the text ends within `audit` of line 2, 2 times `exit` too early; was it cut off?")


def test_an_exit_that_is_missing_is_told_and_the_depth_decides() -> None:
    text = "config\n    audit\n        traffic\n            enabled true\n        retention 1d\n    exit\nexit\n"
    assert remarks(text) == [(5, "`traffic` of line 3 should have ended with `exit` before this")]
    assert value(audit(text), "retention") == "1d"


def test_an_exit_too_much_is_told_and_the_depth_decides() -> None:
    text = "config\n    audit\n        traffic\n            enabled true\n        exit\n        exit\n"
    text += "        retention 1d\n    exit\nexit\nexit\n"
    sentence = "this `exit` ends nothing that begins at its depth; it is passed over"
    assert remarks(text) == [(6, sentence), (10, sentence)]
    assert value(audit(text), "retention") == "1d"


def test_ceilings_are_errors_with_a_line() -> None:
    with pytest.raises(TooMuchError) as lines:
        parse("a\n" * (MOST_LINES + 1))
    assert lines.value.line == MOST_LINES + 1
    with pytest.raises(TooMuchError) as levels:
        parse("\n".join(" " * depth + "a" for depth in range(DEEPEST + 2)))
    assert levels.value.line == DEEPEST + 1


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
    assert calls(lambda: draft_of("x", large)) <= 20 * calls(lambda: draft_of("x", small))


PIECES = (
    *("config", "authority", "router r", "router s", "node n", "system", "audit", "syslog", "exit", "exit", "delete"),
    *("remote-logging-server 1.1.1.1 60", "port-forwarding 127.0.0.1 7777 lo0", "server 1.1.1.1 514", "protocol tls"),
    *("address 1.1.1.1", "port 60", 'name "r', "name r", "retention 1d", "traffic", "enabled maybe", "enabled true"),
    *("content (text/plain)", "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----", "trusted-ca-certificate a"),
    *(
        "client-certificate-name a",
        "client-certificate a",
        "delete router force r",
        "\x00",
        "\x1b[2J",
        "\ud800",
        "é " * 9,
    ),
)


def test_no_text_makes_it_fail() -> None:
    """Seeded. RELAY_FUZZ_SECONDS=300 in the environment is the long form (with `--timeout 0`)."""
    seconds = float(os.environ.get("RELAY_FUZZ_SECONDS", "1"))
    chance = random.Random(7)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = [chance.choice(("", "\t", "    ")) * chance.randrange(6) + chance.choice(PIECES) for _ in range(60)]
        text = "\n".join(lines)
        cut = text[: chance.randrange(len(text))] if chance.random() < 0.3 else text
        draft = draft_of("x", cut)
        assert set(draft.notes) <= set(draft.places)
