"""`./scripts/day` plays the day of the page, and the page has its commands and their output."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.day import PAGE, SCENES, Typed

CHECKOUT = Path(__file__).parents[1]
VARYING = (
    (r"/[\w./-]+/(?=(?:log-server|edge1|web1|auditor)\b)", "/srv/day/"),
    (r"SHA256:[\w+/]{43}", "SHA256:…"),
    (r"ssh-ed25519 AAAA\S+", "ssh-ed25519 AAAA…"),
    (r"(relay|root|\w+)@[\w.-]+(?= \(ED25519\)|\n)", "USER@HOST"),
    (r'"[0-9a-f]{16,64}"', '"…"'),
    (r"\d+(?:\.\d+)?", "0"),
    (r"\b0 [KMGT]i?B\b", "0 MB"),
    (r"[ \t]+", " "),
    (r" \n", "\n"),
)
"""What differs from one day to the next."""


class Block(NamedTuple):
    """A command with its output."""

    prompt: str
    command: str
    output: str


def blocks(transcript: str) -> Iterator[Block]:
    """Every command of a transcript."""
    prompt = r"^(log-server|edge1|web1|sw1|auditor)\$ "
    _, *parts = re.split(prompt, transcript, flags=re.MULTILINE)
    for machine, text in zip(parts[::2], parts[1::2], strict=True):
        found = re.fullmatch(r"(.*\n(?:>.*\n)*)(?s:(.*))", text)
        assert found
        yield Block(machine, same_for_all(found[1]), found[2])


def same_for_all(text: str) -> str:
    """The text without what differs from one day to the next."""
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text)
    return text.strip()


@pytest.mark.timeout(150)
def test_the_page_has_the_commands_of_the_day_and_their_output(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts" / "day.py"), str(tmp_path / "day"), "--any-ports"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{CHECKOUT / 'tests'}:{CHECKOUT}"},
        timeout=140,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    on_the_page = "\n".join(re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    steps = [step for scene in SCENES for step in scene if isinstance(step, Typed)]
    page, day = list(blocks(on_the_page)), list(blocks(done.stdout))
    assert [block[:2] for block in page] == [block[:2] for block in day]
    for step, shown, played in zip(steps, page, day, strict=True):
        if step.until:
            assert re.search(step.until, shown.output), shown
        else:
            # Messages of two senders may arrive in another order.
            assert sorted(same_for_all(shown.output).split("\n")) == sorted(same_for_all(played.output).split("\n"))
    assert "Traceback" not in done.stdout
