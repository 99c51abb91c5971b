"""When the machine under systemd cannot be made, one sentence reports the cause at once, and nothing is left behind."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from harness.debian import DBUS, SYSTEMD, fetch

_MAKE: Final = "from harness.systemd import SystemdMachine\nwith SystemdMachine(): print('it is up')"
_LOCK_CGROUPS: Final = """
place=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
mount -o remount,bind,ro "$place"
exec "$@"
"""
_PLACES: Final = {
    "no namespaces": (("setpriv", "--bounding-set=-sys_admin"), "unshare failed"),
    "no cgroups": (("unshare", "--mount", "sh", "-ec", _LOCK_CGROUPS, "sh"), "Read-only file system"),
    "not root": (("unshare", "--user"), ""),
}


def last_words(prefix: Sequence[str], folder: Path) -> str:
    """The result of making a machine there, in a folder for temporary files."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", _MAKE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return (done.stdout + done.stderr).rpartition("Error: ")[2]


@pytest.mark.parametrize("place", _PLACES)
def test_when_a_machine_cannot_be_made_one_sentence_names_its_needs(place: str, tmp_path: Path) -> None:
    for component in (DBUS, SYSTEMD):
        fetch(component)
    prefix, here = _PLACES[place]
    said = last_words(prefix, tmp_path)
    assert said.startswith("to make a machine under systemd one must be root, and may make namespaces and cgroups ")
    assert here in said
    assert not list(tmp_path.glob("relay-test-systemd-*"))
