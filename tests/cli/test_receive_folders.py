"""The folders of archive and spool when a flag of `relay receive` names only one of them."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.ports import free_port
from harness.relay import RELAY

from relay.cli.commands.receive import DEFAULT_ARCHIVE, DEFAULT_STATE, imply_the_other_folder
from relay.values.configuration.settings import Settings


@pytest.mark.parametrize(
    ("flags", "configured", "expected"),
    [
        ({"archive": "/srv/logs"}, {}, ("/srv/logs", "/srv/logs.state")),
        ({"state": "/srv/logs.state"}, {}, ("/srv/logs", "/srv/logs.state")),
        ({"state": "/srv/spool"}, {}, ("/srv/spool.archive", "/srv/spool")),
        ({"state": "/srv/.state"}, {}, ("/srv/.state.archive", "/srv/.state")),
        ({"archive": "/a", "state": "/s"}, {}, ("/a", "/s")),
        ({"archive": "/a"}, {"state": "/s"}, ("/a", "/s")),
        ({"state": "/s"}, {"archive": "/a"}, ("/a", "/s")),
        ({"listen": "tcp://127.0.0.1:1"}, {"archive": "/a"}, ("/a", None)),
        ({}, {}, (None, None)),
    ],
)
def test_a_flag_that_names_one_folder_implies_the_other_beside_it(
    flags: dict[str, str], configured: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    """Unless the configuration names the other one; None is the configuration's default."""
    named = {**configured, **flags}
    document: dict[str, Any] = {"relay": {}, "receiver": {}}
    if "archive" in named:
        document["receiver"]["archive"] = named["archive"]
    if "state" in named:
        document["relay"]["state-directory"] = named["state"]
    imply_the_other_folder(document, flags)
    assert (document["receiver"].get("archive"), document["relay"].get("state-directory")) == expected


def test_the_defaults_in_help_are_those_of_the_configuration() -> None:
    settings = Settings()
    assert (settings.receiver.archive, settings.relay.state_directory) == (DEFAULT_ARCHIVE, DEFAULT_STATE)


def receive(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [*RELAY, "receive", "--listen", f"tcp://127.0.0.1:{free_port()}", "--drain", *arguments]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_a_relative_archive_and_its_state_are_beside_each_other(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    assert receive(tmp_path / "logs", "--archive", ".").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "logs.state"]
    assert (tmp_path / "logs.state" / "spool").is_dir()
    assert (tmp_path / "logs" / ".relay").is_dir()


def test_a_state_directory_and_its_archive_are_beside_each_other(tmp_path: Path) -> None:
    assert receive(tmp_path, "--state", "spool").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool", "spool.archive"]
