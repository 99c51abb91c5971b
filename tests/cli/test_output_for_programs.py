"""What programs get about messages and senders is shown by a terminal that does not obey it, and has the same value."""

import json
import subprocess
import tomllib
from datetime import UTC
from pathlib import Path

import pytest
from harness.made_archive import MadeDay
from harness.relay import RELAY
from program.history.spools import fill, foreign, opened

from relay.archive.json_line import encode
from relay.archive.layout import begin_of
from relay.archive.reading.line_search import message_of_json
from relay.config.toml_text import toml_text
from relay.program.watch.alarm_command import environment_of
from relay.values.alarm import Alarm, AlarmChange

STRANGE = "a\x7f\x80\x9b31m\u202e\u2066\u2028\U000e0001é"
"""DEL, C1 controls, a direction of writing, an isolate, a line separator, a tag; and a letter."""
MESSAGE = f'<13>1 2026-11-29T10:00:00Z fw1 app - - [x@1 y="{STRANGE}"] {STRANGE}'.encode()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    day = MadeDay("fw1", "2026-11-29")
    day.extent(begin_of("2026-11-29"), [MESSAGE, STRANGE.encode()], sender=STRANGE, identity=STRANGE)
    day.save(tmp_path / STRANGE)
    return tmp_path / STRANGE


def printed(*arguments: str | Path) -> str:
    done = subprocess.run([*RELAY, *arguments], capture_output=True, timeout=60, check=False)
    text = done.stdout.decode()
    assert text, done.stderr.decode()
    assert all(line.isprintable() for line in text.splitlines())
    return text


def test_events(archive: Path) -> None:
    first, second = map(json.loads, printed("events", "--archive", archive, "--json").splitlines())
    assert first["message"] == second["message"] == STRANGE
    assert first["structured_data"]["x@1"]["y"] == STRANGE
    assert (first["peer"], first["identity"]) == (STRANGE, STRANGE)


@pytest.mark.parametrize("command", ["list", "verify"])
def test_an_archive(archive: Path, command: str) -> None:
    printed("archive", command, "--json", archive)


def test_an_archive_that_does_not_exist(tmp_path: Path) -> None:
    assert STRANGE in json.loads(printed("archive", "verify", "--json", tmp_path / STRANGE))["what"]


def test_a_package(archive: Path, tmp_path: Path) -> None:
    printed("archive", "export", archive, "--output", tmp_path / "package.tar", "--json")
    manifest = subprocess.run(
        ["tar", "-xOf", tmp_path / "package.tar", "relay-export/relay-export.json"], capture_output=True, check=True
    ).stdout.decode()
    assert all(line.isprintable() for line in manifest.splitlines())
    assert json.loads(manifest)["archive"] == str(archive)


def test_a_spool(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as store:
        fill(store, [[foreign(MESSAGE)]])
    text = printed("spool", "cat", "--state", tmp_path / "state", "--json")
    assert json.loads(text)["message"] == MESSAGE.decode()


def test_a_line_of_a_json_archive() -> None:
    line = encode(MESSAGE, 0, None, (), UTC)
    assert line.decode().isprintable()
    assert message_of_json(line) == MESSAGE


def test_a_configuration() -> None:
    document = {"relay": {"hostname": STRANGE, STRANGE: f"two\nlines {STRANGE}"}}
    text = toml_text(document)
    assert all(line.isprintable() for line in text.splitlines())
    assert tomllib.loads(text) == document


def test_an_alarm_command() -> None:
    environment = environment_of(AlarmChange(Alarm("spool-full", "minor", STRANGE, STRANGE), True, 0, 0))
    assert all(text.isprintable() for text in environment.values())
