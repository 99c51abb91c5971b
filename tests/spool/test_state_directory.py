"""A state directory that is not fit is refused with its remedy, before anything is written into it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness.rights import WITHOUT_ROOTS_RIGHTS

from relay.errors import CannotCreateError, PermissionRefusedError
from relay.spool.spool import RunSeed
from relay.spool.store import Store
from relay.system.disk import Disk


def opened(folder: Path) -> Store:
    return Store(Disk(), str(folder), segment_size=1 << 16, max_size=1 << 20, run=RunSeed(b"12345678", b"s" * 16))


def test_a_folder_that_other_users_can_open_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    with pytest.raises(
        PermissionRefusedError, match=f"mode 0755 gives other users access; `chmod 700 {tmp_path}/state`"
    ):
        opened(tmp_path / "state")
    assert list((tmp_path / "state").iterdir()) == []


def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        folder = tmp_path / "state"
        folder.mkdir(mode=0o700)
        os.chown(folder, 1, 1)
    else:
        folder = Path("/root")
    with pytest.raises(PermissionRefusedError, match="belongs to the user "):
        opened(folder)


def test_a_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(CannotCreateError, match="state"):
        opened(tmp_path / "state" / "below")


def test_a_folder_that_relay_is_not_allowed_to_write_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o500)
    rights = WITHOUT_ROOTS_RIGHTS
    argv = [*rights, sys.executable, "-m", "relay", "receive", "--drain", "--state", str(folder), "--archive", "a"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 77
    remedy = f"it belongs to this user: `chmod u+rwX {folder}`"
    assert done.stderr == f"relay: cannot write {folder}: permission denied; {remedy}\n"
