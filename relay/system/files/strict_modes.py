"""Files that relay trusts must not be writable by other users; as sshd's StrictModes.

A user who can write to a configuration, a key, a list of keys, an archive or a program that relay runs can change what
relay does. So can one who can write to a folder on the path, because a file there can be replaced: every folder up to
the root counts, and with a symbolic link also those on the path of its target.

- No file and no folder may be writable by everybody, or by a group, except root's, that of this process, and the
  private group of the file's owner (named as the owner, without other members).
- A folder in which users can delete only their own files (the sticky bit, as in /tmp) may be writable. What relay uses
  there must belong to root or to the user of this process.

The owner of a file elsewhere is not examined: somebody gave it to that user deliberately. An access-control list shows
in the mode as the right of the group.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from shlex import quote
from typing import Final, NamedTuple

from relay.errors import PermissionRefusedError
from relay.values.text import quoted

_MOST_LINKS: Final = 40  # path_resolution(7)
_ROOT: Final = 0


class ModeObjection(NamedTuple):
    """Why a file must not be trusted, and the command that changes it."""

    cause: str
    remedy: str


def require_strict_modes(what: str, path: str) -> None:
    """PermissionRefusedError if other users can change the file or folder, or replace it; it need not exist."""
    if objection := mode_objection(path):
        raise PermissionRefusedError(what, *objection)


def mode_objection(path: str) -> ModeObjection | None:
    """The first objection on the path, from the root on; None where other users can change nothing."""
    shared: set[str] = set()
    """Folders in which users can create files, and delete only their own."""
    for step, facts in _steps(path):
        if os.path.dirname(step) in shared and facts.st_uid not in {_ROOT, os.geteuid()}:
            cause = f"{step} belongs to {_user(facts.st_uid)}, in a folder in which every user can create files"
            return ModeObjection(cause, f"`chown {os.geteuid()} {quote(step)}`, or use another folder")
        if stat.S_ISLNK(facts.st_mode):
            continue
        writers, bits = _writers(facts)
        if not writers:
            continue
        if stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX and step != os.path.realpath(path):
            shared.add(step)
            continue
        kind = "the folder " if stat.S_ISDIR(facts.st_mode) else ""
        cause = f"{writers} can write to {kind}{step} (mode {stat.S_IMODE(facts.st_mode):04o})"
        return ModeObjection(cause, f"`chmod {bits}-w {quote(step)}`")
    return None


def _steps(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every folder and symbolic link on the way to a file, from the root on, and the file; as far as they exist."""
    rest = os.path.abspath(path).split("/")[1:]
    here, links = "/", 0
    yield here, os.lstat(here)
    while rest:
        name = rest.pop(0)
        if name == "..":
            here = os.path.dirname(here)
        if name in {"", ".", ".."}:
            continue
        step = os.path.join(here, name)
        try:
            facts = os.lstat(step)
            target = os.readlink(step) if stat.S_ISLNK(facts.st_mode) else None
        except OSError:  # the part that opens it reports why it cannot
            return
        yield step, facts
        if target is None:
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            return
        rest = target.split("/") + rest
        if target.startswith("/"):
            here = "/"


def _writers(facts: os.stat_result) -> tuple[str, str]:
    """Who can write, other than the owner and trusted groups, and whose right chmod(1) must take; empty: nobody."""
    group = facts.st_mode & stat.S_IWGRP and not _is_trusted_group(facts)
    if facts.st_mode & stat.S_IWOTH:
        return "every user", "go" if group else "o"
    if group:
        try:
            name = quoted(grp.getgrgid(facts.st_gid).gr_name)
        except KeyError:
            name = str(facts.st_gid)
        return f"the group {name}", "g"
    return "", ""


def _is_trusted_group(facts: os.stat_result) -> bool:
    if facts.st_gid in {_ROOT, os.getegid()}:
        return True
    try:
        owner, group = pwd.getpwuid(facts.st_uid), grp.getgrgid(facts.st_gid)
    except KeyError:
        return False
    is_private = owner.pw_gid == group.gr_gid and owner.pw_name == group.gr_name
    return is_private and set(group.gr_mem) <= {owner.pw_name}


def _user(number: int) -> str:
    try:
        return f"the user {quoted(pwd.getpwuid(number).pw_name)}"
    except KeyError:
        return f"the user {number}"
