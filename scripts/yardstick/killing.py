"""relay run → sshd → relay receive; SIGKILL ends both again and again while audit.log is written and rotated.

    with Sshd() as sshd, Road(folder, sshd, rate=3000) as road:     # everything runs, and records are written
        road.kill(road.forwarder)
        road.forwarder.start()
        verdict = road.judge()                                      # drained first

The oracle is the receiver's archive: every written record is in it exactly once. The router's spool is small, so that
segments come and go. When it is full the sources wait, because no event may be refused here.
"""

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from harness.openssh import Sshd
from harness.process import Process
from harness.receiver import Receiver
from harness.relay import Router
from harness.waiting import wait_until

from relay.system.crash_point import POINTS
from scripts.yardstick.judge import Ledger, Verdict, judge
from scripts.yardstick.soak import records
from scripts.yardstick.writing import Writing

ROTATE_AT: Final = 4 * 1024 * 1024
GENERATIONS: Final = 200
"""Of audit.log: more than relay can fall behind here, because nobody can deliver a generation that is gone."""
SMALL: Final = """\
[spool]
segment-size = "1MiB"
max-size = "8MiB"
"""
FULL: Final = {"disk-full-action": "halt", "halt-command": ["true"]}
PATIENCE: Final = 60.0
DRAINING: Final = 300.0
_START: Final = 0.9
"""Seconds within which a start, with its connection, is most likely under way."""
_WORK: Final = 0.7
_SOON: Final = 4.0
"""Seconds within which all are connected."""

PREPARED_BY: Final = {"torn-tail-copied": "block-half-written", "torn-tail-cut": "block-half-written"}
"""A moment that only comes in the start after another death."""
NEVER: Final = frozenset({"between-the-spools", *(point for point in POINTS if point.startswith(("day-", "removal-")))})
"""No source gives events of both spools yet, and no day is closed during a trial."""
FORWARDER: Final = tuple(point for point in POINTS if not point.startswith("archive-") and point not in NEVER)
RECEIVER: Final = tuple(point for point in POINTS if not point.startswith("interval-") and point not in NEVER)


class Life:
    """A program that is started again whenever it dies."""

    def __init__(self, name: str, begin: Callable[..., Process]) -> None:
        self.name = name
        self._begin = begin
        self._process: Process | None = None

    def start(self, **environment: str) -> None:
        """Start it; the environment is for this life alone."""
        self._process = self._begin(**environment)

    @property
    def running(self) -> bool:
        """Return whether it lives."""
        return self._process is not None and self._process.running

    @property
    def log(self) -> str:
        """Return its log of all lives."""
        return self._process.log if self._process is not None else ""

    def kill(self) -> None:
        """Send SIGKILL; a dead program is left alone."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """Send SIGTERM."""
        if self._process is not None:
            self._process.stop()


class Death(NamedTuple):
    """A moment at which one of the two programs must die."""

    program: str
    point: str
    nth: int

    def __str__(self) -> str:
        return f"{self.program} at {self.point}:{self.nth}"


class Road:
    """See above."""

    def __init__(self, folder: Path, sshd: Sshd, *, rate: float) -> None:
        self._receiver = Receiver(folder / "server")
        self._router = Router(folder, sshd, self._receiver.port)
        self._router.audit |= FULL
        self._router.write_configuration()
        with self._router.configuration.open("a") as configuration:
            configuration.write(SMALL)
        self._path = f"{_without_wall(folder)}:{os.environ['PATH']}"
        self.forwarder = Life("forwarder", self._router.start)
        self.receiver = Life("receiver", self._receiver.start)
        self._router.audit_log.touch()
        self.writing = Writing(
            self._router.audit_log, records(), rate=rate, rotate_at=ROTATE_AT, generations=GENERATIONS
        )
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as starting:
            for life in self.lives:
                starting.callback(life.kill)
                self.start(life)
            starting.enter_context(self.writing)
            self._ending = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    @property
    def lives(self) -> tuple[Life, Life]:
        """Return both programs."""
        return self.receiver, self.forwarder

    def start(self, life: Life, death: Death | None = None) -> None:
        """Start a program, with a moment to die at if one is given."""
        crash = {"RELAY_CRASH_AT": f"{death.point}:{death.nth}"} if death else {}
        life.start(PATH=self._path, **crash)

    def die(self, death: Death) -> None:
        """Let one of the programs die at that moment, which must come, and start it again."""
        life = self.receiver if death.program == self.receiver.name else self.forwarder
        if death.point in PREPARED_BY:
            self._await_death(life, Death(death.program, PREPARED_BY[death.point], 2))
        self._await_death(life, death)
        self.start(life)

    def _await_death(self, life: Life, death: Death) -> None:
        life.stop()
        self.start(life, death)
        if life is self.receiver and not _within(_SOON, lambda: not life.running):
            self.forwarder.stop()  # the pauses between its attempts to connect grow; a new one tries at once
            self.start(self.forwarder)
        wait_until(lambda: not life.running, PATIENCE, lambda: f"{death}:\n{life.log}")

    def one_round(self, chance: random.Random, pause: Callable[[float], None]) -> str:
        """Kill one of them or both at a random moment, of a start or of their work; return a description."""
        victims = chance.choice(((self.forwarder,), (self.receiver,), self.lives))
        at_work = chance.choice((False, True))
        if at_work:
            before = self._archived
            wait_until(lambda: self._archived > before, PATIENCE, lambda: f"something new:\n{self.forwarder.log}")
        pause(chance.uniform(0, _WORK if at_work else _START))
        for life in victims:
            life.kill()
        for life in victims:
            self.start(life)
        return f"{' and '.join(life.name for life in victims)}, {'at work' if at_work else 'at any moment'}"

    @property
    def _archived(self) -> int:
        return sum(path.stat().st_size for path in self._files())

    def _files(self) -> Iterator[Path]:
        return self._receiver.archive.glob("[!.]*/*.log")

    def judge(self) -> Verdict:
        """Stop writing, drain, stop both, and compare the archive with the written records."""
        self.writing.stop()
        self.forwarder.stop()
        done = self._router.drain(DRAINING)
        if done.returncode:
            raise AssertionError(f"relay run --drain ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        self.receiver.stop()
        # Started once more, it archives what its spool still holds; the verdict reports what does not arrive then.
        with self._receiver.running():
            _within(PATIENCE, lambda: Ledger().take_files(self._files()).records >= self.writing.written.records)
        self._verify()
        return judge(self.writing.written, Ledger().take_files(self._files()))

    def _verify(self) -> None:
        """Check that relay's own verdict on the archive is true as well: nothing is missing or wrong."""
        done = self._router.run("archive", "verify", str(self._receiver.archive))
        if done.returncode:
            raise AssertionError(f"relay archive verify ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def deaths(points: tuple[str, ...], times: int) -> Iterator[Death]:
    """Yield both programs at every moment that they have, the first time it comes and that many further times."""
    for program, known in (("forwarder", FORWARDER), ("receiver", RECEIVER)):
        for point in known:
            if point in points:
                for nth in range(1, 2 if point in PREPARED_BY else times + 1):
                    yield Death(program, point, nth)


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    try:
        wait_until(condition, seconds, "")
    except AssertionError:
        return False
    return True


def _without_wall(folder: Path) -> Path:
    """Make a folder with a `wall` that does nothing: a full spool would send a message to all users of this machine."""
    stubs = folder / "stubs"
    stubs.mkdir()
    stub = stubs / "wall"
    stub.write_text("#!/bin/sh\n")
    stub.chmod(0o755)
    return stubs
