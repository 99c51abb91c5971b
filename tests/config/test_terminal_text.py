"""A router's configuration that was copied or logged from a terminal: relay ignores the traces of the terminal."""

from collections.abc import Callable
from pathlib import Path

import pytest

from relay.config.router import terminal_text
from relay.config.router.recognition import is_router_text
from relay.config.router.router_choice import RouterChoice
from relay.config.router.router_draft import router_draft
from relay.config.router.router_text import parse

ROUTERS = (Path(__file__).parent / "ssr" / "two-routers.cfg").read_text()
EDGE = RouterChoice("edge", "edge-a")
PROMPT = "*admin@edge-a.edge# "


def each(change: Callable[[str], str]) -> str:
    return "\n".join(map(change, ROUTERS.split("\n")))


def every_tenth(mark: str) -> str:
    return "\n".join(mark * (number % 10 == 0) + line for number, line in enumerate(ROUTERS.split("\n"), 1))


COPIES = {
    "a session": f"{PROMPT}show config running\nSun 2023-09-03 14:03:52 UTC\n✔ Retrieving...\n{ROUTERS}"
    f"\nCompleted in 0.18 seconds\n{PROMPT}\n",
    "a session in the shell": "[root@edge-a ~]# su admin\nStarting the PCLI...\nadmin@edge-a.edge# show config run\n"
    f"{ROUTERS}admin@edge-a.edge# quit\n[root@edge-a ~]# ",
    "colours": each(lambda line: f"\x1b[0;32m{line}\x1b[0m\x1b[K"),
    "a window's title": "\x1b]0;admin@edge\x07" + ROUTERS,
    "Windows": each(lambda line: line + "\r"),
    "a log of a serial line": each(lambda line: line + "\r\r"),
    "carriage returns alone": ROUTERS.replace("\n", "\r"),
    "a pager, overprinted": every_tenth("--More--\r        \r"),
    "a pager, taken back": every_tenth("--More--" + "\b" * 8 + " " * 8 + "\b" * 8),
    "a pager, erased": every_tenth("\x1b[7m--More--(12%)\x1b[27m\x1b[13D\x1b[K"),
    "a pager, in lines of its own": every_tenth("--More--\n"),
    "another pager": every_tenth("---(more 45%)---") + "\x1b[7m(END)\x1b[27m\n",
    "a quotation": f"```config\n{ROUTERS}```\n",
    "comments": f"# by hand\n{ROUTERS}".replace("            system\n", "# the audit\n! part\n            system\n", 1),
    "spaces of a web page": ROUTERS.replace("    ", "\u00a0" * 4),
    "letters that nobody sees": "\ufeff"
    + ROUTERS.replace("audit\n", "audit\u200b\n").replace("  port", "\u00ad\u200e  port"),
    "a page's indentation": each(lambda line: f"    {line}" if line.strip() else line),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_from_a_terminal_means_the_same_as_the_routers_text(copy: str) -> None:
    assert is_router_text(COPIES[copy])
    draft = router_draft("router.cfg", COPIES[copy], EDGE)
    assert (draft.mistakes, draft.warnings) == ([], [])
    assert draft.document == router_draft("router.cfg", ROUTERS, EDGE).document


def test_the_lines_keep_their_numbers() -> None:
    for copy, more in (("a session", 3), ("colours", 0), ("a pager, overprinted", 0)):
        whole, copied = (router_draft("x", text, EDGE) for text in (ROUTERS, COPIES[copy]))
        way = ("port-forwarding", 0, "server-address")
        (line, copied_line) = (draft.locations[way].line for draft in (whole, copied))
        assert line is not None
        assert copied_line == line + more


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("admin@a.b#", True),
        ("*admin@a.b (server[ip-address=192.0.2.8][port=514])# protocol tls", True),
        ("(syslog)# protocol tls", True),
        ("[root@a ~]# ls", True),
        ("Mon 2021-02-22 15:19:28 EST", True),
        ("Completed in 0.22 seconds", True),
        (":", True),
        ("description a@b", False),
        ("description a@b #1", False),
        ("user@host = 1 # 2", False),
        ("monitoring", False),
        ("(text/plain)", False),
        ("-----BEGIN CERTIFICATE-----", False),
    ],
)
def test_lines_that_the_command_line_printed_are_recognised(line: str, expected: bool) -> None:
    assert terminal_text.is_chatter(line) is expected


def test_a_command_typed_at_a_prompt_is_a_remark_when_it_may_change_something() -> None:
    text = f"{PROMPT}sh config running\n{ROUTERS}{PROMPT}conf authority router hub\n"
    text += "*admin@a.b (router[name=hub])# location usa\n*admin@a.b (router[name=hub])# top\n[root@a ~]# rm x\n"
    sentence = "relay does not read commands typed at a prompt; save the output of `show config running`"
    last = ROUTERS.count("\n") + 2
    assert [(remark.line, remark.sentence) for remark in parse(text).remarks] == [
        (last, sentence),
        (last + 1, sentence),
    ]
