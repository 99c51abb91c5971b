"""Where `relay receive` keeps archive and spool when a flag names only one of them."""

import subprocess
from pathlib import Path

import pytest
from harness.ports import free_port
from harness.relay import RELAY

from relay.cli.options import Options
from relay.cli.run import DEFAULT_ARCHIVE, DEFAULT_STATE, _with_flags
from relay.settings import Settings


def folders(configuration: str, folder: Path, **flags: str) -> tuple[str, str]:
    """The archive and the state directory."""
    file = folder / "relay.toml"
    file.write_text(f"{configuration}\n# nothing else")
    settings = _with_flags(Options(given_config_paths=(str(file),)), dict(flags))
    return settings.receiver.archive, settings.relay.state_directory


@pytest.mark.parametrize(
    ("configuration", "flags", "expected"),
    [
        ("", {"archive": "/srv/logs"}, ("/srv/logs", "/srv/logs.state")),
        ("", {"archive": "/srv/logs/"}, ("/srv/logs", "/srv/logs.state")),
        ("", {"state": "/srv/logs.state"}, ("/srv/logs", "/srv/logs.state")),
        ("", {"state": "/srv/spool"}, ("/srv/spool.archive", "/srv/spool")),
        ("", {"state": "/srv/.state"}, ("/srv/.state.archive", "/srv/.state")),
        ("", {"archive": "/a", "state": "/s"}, ("/a", "/s")),
        ('[relay]\nstate-directory = "/s"', {"archive": "/a"}, ("/a", "/s")),
        ('[receiver]\narchive = "/a"', {"state": "/s"}, ("/a", "/s")),
        ("", {}, (DEFAULT_ARCHIVE, DEFAULT_STATE)),
    ],
)
def test_one_folder_implies_the_other_beside_it(
    tmp_path: Path, configuration: str, flags: dict[str, str], expected: tuple[str, str]
) -> None:
    assert folders(configuration, tmp_path, **flags) == expected


def test_the_defaults_that_the_help_names_are_those_of_the_configuration() -> None:
    settings = Settings()
    assert (settings.receiver.archive, settings.relay.state_directory) == (DEFAULT_ARCHIVE, DEFAULT_STATE)


def receive(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [*RELAY, "receive", "--listen", f"tcp://127.0.0.1:{free_port()}", "--drain", *arguments]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_a_relative_archive_and_its_state_lie_beside_each_other(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    assert receive(tmp_path / "logs", "--archive", ".").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "logs.state"]
    assert (tmp_path / "logs.state" / "spool").is_dir()
    assert (tmp_path / "logs" / ".relay").is_dir()


def test_a_state_directory_and_its_archive_lie_beside_each_other(tmp_path: Path) -> None:
    assert receive(tmp_path, "--state", "spool").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool", "spool.archive"]
