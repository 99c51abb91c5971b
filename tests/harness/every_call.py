"""The same lives of a store again and again; in each of them another call of the disk fails.

The lives and the oracle are those of `BadDays` without its random failures, or with a policy those of `TightDays`. Each
call fails once. The seed decides what a refused write leaves behind and what a power cut removes.
"""

import errno
from dataclasses import dataclass
from typing import Final, NamedTuple

from harness.bad_days import BadDays, BrokenPromiseError
from harness.tight_days import TightDays
from relay.spool.full_disk import Policy

LIVES: Final = 3
STEPS: Final = 12
ENOUGH: Final = 30
"""Calls in a row: retries in the next moments of a life fail too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """How a call fails."""

    code: int = 0
    """The errno of the failure; 0: it is the last call of its process."""
    calls: int = 1
    """The number of consecutive calls that fail."""
    power_cut: bool = False
    """Processes end with a power cut; otherwise they are killed."""

    def __str__(self) -> str:
        end = "power cut" if self.power_cut else "kill"
        return f"{errno.errorcode[self.code]} {self.calls} times, {end}" if self.code else end


WRONGS: Final = tuple(
    Wrong(code=code, calls=calls, power_cut=power_cut)
    for power_cut in (False, True)
    for code, calls in ((0, 1), *((code, calls) for code in (errno.ENOSPC, errno.EIO) for calls in (1, ENOUGH)))
)


class Lived(NamedTuple):
    """What the lives have tested."""

    calls: int
    accepted: int


def go_wrong(wrong: Wrong, number: int, seed: int = 0, policy: Policy = "halt") -> Lived:
    """Live through it with that call failing; BrokenPromiseError names the call."""
    days = BadDays(seed=seed, steps=STEPS) if policy == "halt" else TightDays(seed=seed, policy=policy)
    if wrong.code:
        days.disk.fail_at = dict.fromkeys(range(number, number + wrong.calls), wrong.code)
    else:
        days.disk.crash_at = number
    try:
        for life in range(LIVES):
            days.live_once(life, power_cut=wrong.power_cut)
        calls = len(days.disk.calls)
        days.settle()
    except BrokenPromiseError as error:
        raise BrokenPromiseError(f"{policy}: {wrong} at call {number}, seed {seed}: {error}") from error
    return Lived(calls, days.accepted)


def every_call(wrong: Wrong, seed: int = 0, policy: Policy = "halt") -> Lived:
    """Let each call fail once, until no life reaches the number; return the calls and the accepted events."""
    number, accepted = 0, 0
    while True:
        number += 1
        lived = go_wrong(wrong, number, seed, policy)
        accepted += lived.accepted
        if lived.calls < number:
            return Lived(number - 1, accepted)
