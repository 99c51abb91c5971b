"""Which files and folders other users can change or replace: by mode, group, symbolic link, and owner in /tmp."""

import os
import stat
import subprocess
from pathlib import Path
from typing import Final

import pytest

from relay.errors import PermissionRefusedError
from relay.system.files.strict_modes import mode_objection, require_strict_modes

STRANGERS: Final = 54321
"""The number of a group that is neither root's nor this process's, and that has no name."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    (folder / "relay.toml").write_text("")
    (folder / "relay.toml").chmod(0o644)
    return folder


@pytest.mark.parametrize(
    ("mode", "folders_mode", "is_trusted"),
    [
        (0o600, 0o700, True),
        (0o644, 0o755, True),
        (0o664, 0o775, True),  # the group of this process
        (0o646, 0o755, False),
        (0o666, 0o755, False),
        (0o602, 0o700, False),
        (0o644, 0o757, False),
        (0o644, 0o777, False),
        (0o644, 0o1777, True),
        (0o666, 0o1777, False),
    ],
)
def test_nothing_may_be_writable_by_everybody(folder: Path, mode: int, folders_mode: int, *, is_trusted: bool) -> None:
    file = folder / "relay.toml"
    file.chmod(mode)
    folder.chmod(folders_mode)
    assert (mode_objection(str(file)) is None) is is_trusted


def test_an_objection_names_the_cause_and_a_command_that_removes_it(folder: Path) -> None:
    file = folder / "relay.toml"
    file.chmod(0o646)
    folder.chmod(0o757)
    with pytest.raises(PermissionRefusedError) as refused:
        require_strict_modes("configuration", str(file))
    assert str(refused.value) == (
        f"configuration: every user can write to the folder {folder} (mode 0757); `chmod o-w {folder}`"
    )
    for _ in range(2):
        objection = mode_objection(str(file))
        assert objection is not None
        subprocess.run(["sh", "-c", objection.remedy.strip("`")], check=True)
    assert mode_objection(str(file)) is None
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(folder.stat().st_mode)) == (0o644, 0o755)


@pytest.mark.parametrize(
    ("group", "is_trusted"), [(STRANGERS, False), (0, True), (os.getegid(), True)], ids=["strangers", "root", "own"]
)
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_group_that_is_neither_roots_nor_relays_must_not_be_able_to_write(
    folder: Path, monkeypatch: pytest.MonkeyPatch, group: int, *, is_folder: bool, is_trusted: bool
) -> None:
    """Only root can give a file away, so the group is what the file system is made to report."""
    file = folder / "relay.toml"
    changed = folder if is_folder else file
    changed.chmod(0o775 if is_folder else 0o664)
    report_as(monkeypatch, str(changed), gid=group)
    objection = mode_objection(str(file))
    assert (objection is None) is is_trusted
    if objection is not None:
        assert f"the group {STRANGERS} can write to" in objection.cause
        assert objection.remedy == f"`chmod g-w {changed}`"


def report_as(monkeypatch: pytest.MonkeyPatch, path: str, *, uid: int | None = None, gid: int | None = None) -> None:
    """Make lstat report another owner or group of one path."""
    actual = os.lstat

    def lstat(name: str) -> os.stat_result:
        facts = list(actual(name))
        if name == path:
            facts[4] = facts[4] if uid is None else uid
            facts[5] = facts[5] if gid is None else gid
        return os.stat_result(facts)

    monkeypatch.setattr(os, "lstat", lstat)


def test_a_private_group_of_the_owner_is_the_owner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "relay.toml"
    file.chmod(0o664)
    report_as(monkeypatch, str(file), uid=1, gid=1)  # daemon, of every Linux system
    assert mode_objection(str(file)) is None
    report_as(monkeypatch, str(file), uid=2, gid=1)
    objection = mode_objection(str(file))
    assert objection is not None
    assert 'the group "daemon" can write' in objection.cause


@pytest.mark.parametrize("link_is_absolute", [False, True])
def test_both_ends_of_a_symbolic_link_count(folder: Path, tmp_path: Path, *, link_is_absolute: bool) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    link = elsewhere / "relay.toml"
    link.symlink_to(folder / "relay.toml" if link_is_absolute else "../etc/relay.toml")
    assert mode_objection(str(link)) is None, "the link itself has the mode 0777, which means nothing"
    for part in (folder / "relay.toml", folder, elsewhere):
        mode = stat.S_IMODE(part.stat().st_mode)
        part.chmod(mode | 0o002)
        objection = mode_objection(str(link))
        assert objection is not None, part
        assert f"{part} (mode" in objection.cause
        part.chmod(mode)
    assert mode_objection(str(link)) is None


def test_a_folder_far_above_counts_and_a_way_through_it_by_dots_does(folder: Path) -> None:
    inner = folder / "a/b"
    inner.mkdir(parents=True)
    folder.chmod(0o777)
    for path in (inner / "key", inner / "../b/key", folder / "a/../a/b/missing"):
        objection = mode_objection(str(path))
        assert objection is not None
        assert f"the folder {folder} (mode 0777)" in objection.cause


def test_where_users_can_delete_only_their_own_files_the_owner_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.chmod(0o1777)
    file, link = folder / "relay.toml", folder / "link"
    link.symlink_to("relay.toml")
    assert mode_objection(str(file)) is None
    assert mode_objection(str(folder / "missing")) is None
    for strangers in (file, link):
        report_as(monkeypatch, str(strangers), uid=STRANGERS)
        objection = mode_objection(str(link))
        monkeypatch.undo()
        assert objection is not None
        assert f"{strangers} belongs to the user {STRANGERS}" in objection.cause
    report_as(monkeypatch, str(file), uid=0)
    assert mode_objection(str(file)) is None


def test_an_archive_in_which_every_user_can_create_files_is_refused_with_and_without_the_sticky_bit(
    folder: Path,
) -> None:
    for mode in (0o777, 0o1777):
        folder.chmod(mode)
        assert mode_objection(str(folder)) is not None


def test_loops_and_missing_parts_are_left_to_the_part_that_opens_the_file(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    for path in (folder / "loop", folder / "missing/key", folder / "relay.toml/key"):
        assert mode_objection(str(path)) is None
