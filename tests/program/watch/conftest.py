"""The only programs that a test of this folder can find: stubs that do nothing except write down their calls."""

import shlex
from pathlib import Path

import pytest

# Whatever might halt a machine, or talk to its users, by mistake.
NAMES = ("shutdown", "poweroff", "halt", "reboot", "systemctl", "init", "telinit", "wall")
_STUB = """#!/bin/sh
while read -r line; do said="$said<$line>"; done
echo "${0##*/} $*$said" >> %s
"""


class Stubs:
    """A folder of programs; `ran` has every call: name, arguments, and each line on its standard input."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "stubs"
        self.folder.mkdir()
        self._calls = folder / "calls"
        for name in NAMES:
            self.write(name, _STUB % shlex.quote(str(self._calls)))

    def write(self, name: str, script: str) -> Path:
        path = self.folder / name
        path.write_text(script)
        path.chmod(0o755)
        return path

    @property
    def ran(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture(autouse=True)
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    """First and alone on PATH, for every test here: no test can reach a real halt."""
    made = Stubs(tmp_path)
    monkeypatch.setenv("PATH", str(made.folder))
    return made
