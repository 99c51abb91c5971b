"""A log that is written without a pause and rotated all the time, a source that follows it, and a judge.

Writer and source are processes of their own. What the source gives is appended to a file, one line a batch, records
and position together, as the spool commits them; a source that is killed goes on after the last whole line. The judge
counts records in that file against those that the writer wrote: each must stand there once.

The writer rotates in one of these ways; `KEEP` older files are kept, and none is overwritten before it was read, for
what is deleted no source can read:

- `rename`: as logrotate does: the oldest is deleted, each gets the next number, and a new log is made.
- `shift`: as auditd does: the oldest is renamed over.
- `inode reuse`: the same with one older file only, so that the file system (ext4) gives every log the inode of
  one just read.
- `copytruncate`: the log is copied, then cut to nothing, and written on.
- `copytruncate, written meanwhile`: records are written after the copy and before the cut. They are the writer's own
  loss, unless the source read them in between: they may be missing, and may not come twice.
"""

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from source.log_writing import audit_log, record, text_of

from relay.values.event import Batch, Position

Way = Literal["rename", "shift", "inode reuse", "copytruncate", "copytruncate, written meanwhile"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)
KEEP: Final = 8
PATIENCE_S: Final = 120.0
CAUGHT_UP: Final = 0.1
"""How often the writer gives the source time; else it may be several files behind."""
SOON_S: Final = 0.3
_TAIL: Final = 262_144
_RECORD = re.compile(rb"type=([A-Z]+) msg=audit\([0-9.]+:([0-9]+)\)")
_fork = multiprocessing.get_context("fork")  # the modules are imported once, and a restart takes milliseconds

Written = tuple[int, str]
"""A record, by its event's serial and its type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: how the log is rotated, how often, and how often the source is killed meanwhile."""

    way: Way
    rounds: int
    kills: int
    seed: int
    inotify: bool = True


class Outcome(NamedTuple):
    """What was counted."""

    records: int
    rotations: int
    kills: int
    lost: int
    repeated: int
    in_window: int
    """Records written between a copy and its cut."""
    lost_in_window: int
    reused: int
    """How often a new log got an inode that an older one had had."""
    lost_places: int
    """How often the source itself said that the place it had reached was gone."""


class _Writer:
    """The writing process."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.path = folder / "audit.log"
        self._notes = folder / "written"
        self._taken = folder / "taken"
        self._run = run
        self._choose = random.Random(run.seed)
        self._log = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._serial = 0
        self._last_in: list[int] = []
        """The last serial of each generation, the oldest first."""
        self._inodes = {os.fstat(self._log).st_ino}
        self._keep = 1 if run.way == "inode reuse" else KEEP
        self.reused = 0
        self.window: list[int] = []

    def write(self) -> None:
        """Write and rotate `rounds` times, and note at the end what was written."""
        for _ in range(self._run.rounds):
            self._fill()
            if self._choose.random() < CAUGHT_UP:
                self._let_catch_up()
            self._last_in.append(self._serial)
            self._await_reader()
            self._rotate()
        self._fill()
        facts = {"last": self._serial, "window": self.window, "reused": self.reused}
        self._notes.with_suffix(".new").write_text(json.dumps(facts))
        self._notes.with_suffix(".new").rename(self._notes)

    def _fill(self) -> None:
        if self._choose.random() < 0.3:
            time.sleep(self._choose.random() * 0.01)
        for _ in range(self._choose.randint(1, 60)):
            self._event()

    def _event(self) -> None:
        self._serial += 1
        for kind in kinds(self._serial):
            os.write(self._log, record(self._serial, kind=kind))

    def _await_reader(self) -> None:
        """Return once the file that the next rotation deletes is read."""
        if len(self._last_in) <= self._keep:
            return
        oldest = self._last_in[-self._keep - 1]
        deadline = time.monotonic() + PATIENCE_S
        while _last_taken(self._taken) < oldest:
            if time.monotonic() > deadline:
                raise AssertionError(f"serial {oldest} was not read within {PATIENCE_S:g} s")
            time.sleep(0.001)

    def _let_catch_up(self) -> None:
        """Let the source read all there is, if it does so soon: it then stands at the end when the log is rotated."""
        deadline = time.monotonic() + SOON_S
        while _last_taken(self._taken) < self._serial and time.monotonic() < deadline:
            time.sleep(0.001)

    def _rotate(self) -> None:
        if self._run.way.startswith("copytruncate"):
            self._copy_and_cut()
            return
        os.close(self._log)
        if self._run.way != "shift":
            self._name(self._keep).unlink(missing_ok=True)
        self._shift(0)
        self._log = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        inode = os.fstat(self._log).st_ino
        self.reused += inode in self._inodes
        self._inodes.add(inode)

    def _copy_and_cut(self) -> None:
        self._shift(1)
        shutil.copyfile(self.path, self._name(1))
        if self._run.way == "copytruncate, written meanwhile":
            for _ in range(self._choose.randint(0, 3)):
                self._event()
                self.window.append(self._serial)
            if self._choose.random() < CAUGHT_UP:
                self._let_catch_up()
        os.ftruncate(self._log, 0)

    def _shift(self, first: int) -> None:
        for number in range(self._keep - 1, first - 1, -1):
            with contextlib.suppress(FileNotFoundError):
                self._name(number).rename(self._name(number + 1))

    def _name(self, number: int) -> Path:
        return self.path.with_name(f"audit.log.{number}") if number else self.path


def kinds(serial: int) -> tuple[str, ...]:
    """The records of an event; of every third, two: some are open where a file ends, or when the source is killed."""
    return ("SYSCALL", "PROCTITLE") if serial % 3 == 0 else ("USER",)


def _last_taken(taken: Path) -> int:
    with contextlib.suppress(FileNotFoundError), taken.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        whole = file.read().split(b"\n")[:-1]
        for line in reversed(whole):
            with contextlib.suppress(ValueError):
                records = json.loads(line)["records"]
                if records:
                    return int(max(serial for serial, _ in records))
    return 0


def _follow(folder: Path, *, inotify: bool, drain: bool = False) -> None:
    """The source's process: continues after the last batch that is whole in `taken`."""
    position, size = None, 0
    with contextlib.suppress(FileNotFoundError):
        kept = (folder / "taken").read_bytes()
        size = kept.rfind(b"\n") + 1
        if size:
            last = json.loads(kept[:size].splitlines()[-1])
            position = Position("audit", last["count"], last["place"].encode())
    taken = os.open(folder / "taken", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.ftruncate(taken, size)
    source = audit_log(folder / "audit.log", inotify=inotify)

    async def submit(batch: Batch) -> asyncio.Future[None]:
        position = batch.position
        assert position is not None
        records = [
            (int(serial), kind.decode()) for event in batch.events for kind, serial in _RECORD.findall(text_of(event))
        ]
        facts = {
            "records": records,
            "count": position.count,
            "place": position.data.decode(),
            "lost_places": source.loss_count,
        }
        os.write(taken, json.dumps(facts).encode() + b"\n")
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        durable.set_result(None)
        return durable

    asyncio.run(source.run(submit, position, drain=drain))


def _undisturbed(work: Callable[[], None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends us
    logging.disable()  # what the source says of lost places is counted
    work()


@contextlib.contextmanager
def _process(work: Callable[[], None]) -> Iterator["multiprocessing.context.ForkProcess"]:
    process = _fork.Process(target=_undisturbed, args=(work,), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def play(folder: Path, run: Run) -> Outcome:
    """Write, rotate, follow and kill; then judge. AssertionError when nothing happens for `PATIENCE_S`."""
    choose = random.Random(run.seed)
    writer = _Writer(folder, run)
    kills = 0
    with _process(writer.write) as writing:
        while True:
            with _process(lambda: _follow(folder, inotify=run.inotify)) as following:
                if kills < run.kills and writing.is_alive():
                    following.join(choose.random() * 0.08)
                    assert following.exitcode is None, "the source ended"
                    following.kill()
                    kills += 1
                else:
                    _await_end(folder, following, writing)
                    break
            if choose.random() < 0.3:
                time.sleep(choose.random() * 0.05)
    with _process(lambda: _follow(folder, inotify=run.inotify, drain=True)) as following:  # what would come twice comes
        following.join(PATIENCE_S)
        assert following.exitcode == 0, "the source did not end"
    return _judge(folder, run, kills)


def _await_end(
    folder: Path, following: "multiprocessing.context.ForkProcess", writing: "multiprocessing.context.ForkProcess"
) -> None:
    """Return once the last event that was written is taken, or nothing has come for long."""
    quiet_since, size = time.monotonic(), -1
    while True:
        following.join(0.02)
        assert following.exitcode is None, "the source ended"
        assert not writing.exitcode, "the writer failed"
        with contextlib.suppress(FileNotFoundError):
            last = json.loads((folder / "written").read_text())["last"]
            if _last_taken(folder / "taken") >= last:
                return
            now = (folder / "taken").stat().st_size
            if now != size:
                quiet_since, size = time.monotonic(), now
            if time.monotonic() - quiet_since > 10:
                return  # the judge will tell what is missing


def _judge(folder: Path, run: Run, kills: int) -> Outcome:
    facts = json.loads((folder / "written").read_text())
    window = set(facts["window"])
    batches = [json.loads(line) for line in (folder / "taken").read_bytes().splitlines()]
    taken = Counter((serial, kind) for batch in batches for serial, kind in batch["records"])
    written = [(serial, kind) for serial in range(1, facts["last"] + 1) for kind in kinds(serial)]
    missing = [each for each in written if each not in taken]
    return Outcome(
        records=len(written),
        rotations=run.rounds,
        kills=kills,
        lost=sum(serial not in window for serial, _ in missing),
        repeated=sum(times - 1 for times in taken.values()),
        in_window=sum(len(kinds(serial)) for serial in window),
        lost_in_window=sum(serial in window for serial, _ in missing),
        reused=facts["reused"],
        lost_places=_total_lost_places(batches),
    )


def _total_lost_places(batches: list[dict[str, int]]) -> int:
    """Add up the highest count of each run: a restart begins at 0."""
    counts = [batch["lost_places"] for batch in batches]
    return sum(one for one, other in zip(counts, [*counts[1:], 0], strict=True) if other < one)
