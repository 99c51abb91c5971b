"""The same lives of a store again and again, in each of which another call of the disk is the one that goes wrong.

The lives and the oracle are those of `BadDays`, without its bad luck, or with a policy those of `TightDays`: what goes
wrong was prepared here, and every call has its turn. What a refused write leaves behind, and what a power cut takes, is
drawn from the seed.
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
"""Calls in a row: whatever is tried again in a life's next moments fails too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """What happens to a call."""

    code: int = 0
    """The errno of its failure; 0: it is the last call of its process."""
    calls: int = 1
    """So many in a row fail."""
    power_cut: bool = False
    """Processes end by a power cut; else they are killed."""

    def __str__(self) -> str:
        end = "power cut" if self.power_cut else "kill"
        return f"{errno.errorcode[self.code]} {self.calls} times, {end}" if self.code else end


WRONGS: Final = tuple(
    Wrong(code=code, calls=calls, power_cut=power_cut)
    for power_cut in (False, True)
    for code, calls in ((0, 1), *((code, calls) for code in (errno.ENOSPC, errno.EIO) for calls in (1, ENOUGH)))
)


class Lived(NamedTuple):
    """What the lives were good for."""

    calls: int
    accepted: int


def go_wrong(wrong: Wrong, number: int, seed: int = 0, policy: Policy = "halt") -> Lived:
    """Live through it with that call going wrong; BrokenPromiseError names the call."""
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
    """Let each call have its turn until one is asked for that does not come; how many had one, and all accepted."""
    number, accepted = 0, 0
    while True:
        number += 1
        lived = go_wrong(wrong, number, seed, policy)
        accepted += lived.accepted
        if lived.calls < number:
            return Lived(number - 1, accepted)
