"""Rights (capabilities(7)) of the programs that relay starts: none of relay's own, except where one is named.

A right can reach a program that a process executes in three ways. Ambient and inheritable rights are passed on;
`keep_rights` gives both up for the whole process. A process of root gets everything in its bounding set, and a program
with the set-user-ID bit or with capabilities of its own gets those, within the bounding set and unless no_new_privs is
set (prctl(2)). `start` takes both away in a thread that starts the program and ends: they belong to a thread, cannot be
regained, and are inherited.

Only a process with CAP_SETPCAP can reduce its bounding set. Without it (as in relay's units) the set stays as it is; a
program without rights then gets nothing out of it, because of no_new_privs.
"""

import ctypes
import errno
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

CAP_DAC_OVERRIDE: Final = 1
CAP_SYS_BOOT: Final = 22
_HIGHEST_CAPABILITY: Final = 63
"""The kernel's masks have 64 bits; prctl(2) rejects numbers that it does not know."""
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_INHERITABLE: Final = (2, 5)
"""Of the six words of capset(2): effective, permitted and inheritable, twice 32 bits of each."""


class ChildRights(NamedTuple):
    """What a program may have when relay runs as root, or has CAP_SETPCAP."""

    capabilities: frozenset[int] = frozenset()
    """Its bounding set."""
    new_privileges: bool = False
    """Whether sudo and the like can give it more."""


NO_RIGHTS: Final = ChildRights()
HALTING: Final = ChildRights(frozenset({CAP_SYS_BOOT}), new_privileges=True)
"""Root needs no right to halt through systemd. Elsewhere it uses reboot(2); relay's user may need sudo or pkexec."""
EVERY_TERMINAL: Final = ChildRights(frozenset({CAP_DAC_OVERRIDE}))
"""Terminals belong to their users."""


def keep_rights() -> None:
    """Pass no ambient and no inheritable right to any child. Call it before the first thread starts."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    words = (ctypes.c_uint32 * 6)()
    if libc.capget(header, words) == 0:
        for index in _INHERITABLE:
            words[index] = 0
        libc.capset(header, words)  # a unit's filter of system calls may refuse it; ambient rights are gone by then


def start(
    command: Sequence[str], environment: Mapping[str, str], rights: ChildRights = NO_RIGHTS
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, with a pipe as its standard input and without output; OSError."""

    def start_with_fewer_rights() -> subprocess.Popen[bytes]:
        _give_up_rights(rights)
        return subprocess.Popen(  # noqa: S603  no shell; the words come from the configuration or from relay
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )

    try:
        with ThreadPoolExecutor(1, "start") as thread:
            return thread.submit(start_with_fewer_rights).result()
    except (
        RuntimeError
    ) as error:  # no thread can be started: the interpreter is ending, or the unit's TasksMax is reached
        raise OSError(errno.EAGAIN, str(error)) from error


def _give_up_rights(rights: ChildRights) -> None:
    """Give up all others in this thread, for good."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(_HIGHEST_CAPABILITY + 1):
        if capability not in rights.capabilities:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if not rights.new_privileges:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
