"""The source `event-collector` with a real child, which keeps an index file and can be killed at any moment."""

import asyncio
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from harness.waiting import until, wait_until
from source.log_writing import Taken, drain, follow

from relay.errors import NoInputError, StorageError, UnavailableError
from relay.events.ssr.filters import Filter
from relay.events.ssr.mapping import SsrMapping
from relay.source.collector.event_collector import CollectorProgram, CollectorTiming, EventCollector
from relay.source.collector.index_file import ABSENT
from relay.transport.retry import Backoff
from relay.values.event import Batch, Event, EventType, Position

COLLECTOR = Path(__file__).parent / "collector.py"
_NUMBER = re.compile(rb' number="(\d+)"')

both_orders = pytest.mark.parametrize("order", ["write-first", "index-first"])


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "events.index"


PATIENT = CollectorTiming(backoff=Backoff(first=0.02, longest=0.02), end_s=20.0, drain_first_s=30.0, drain_quiet_s=20.0)
"""Starts children again at once, and gives each the time that it takes on a machine that stalls."""
USUAL = replace(PATIENT, end_s=CollectorTiming().end_s, drain_quiet_s=CollectorTiming().drain_quiet_s)
"""For children that never do what is awaited."""
SLOW_CHILDREN = replace(PATIENT, settle_s=20.0)
"""For children that may stall between their index and their event."""


def collector(
    index: Path | None, *arguments: str | float, events: Filter | None = None, timing: CollectorTiming = PATIENT
) -> EventCollector:
    command = [sys.executable, "-I", "-S", str(COLLECTOR), *map(str, arguments)]
    if index is not None:
        command += ["--index-file", str(index)]
    mapping = SsrMapping(hostname="combo1", router="combo1")
    return EventCollector("events", CollectorProgram(command, index_file=str(index or "")), mapping, events, timing)


def shell(
    script: str, index: Path | None = None, environment: Sequence[str] = (), timing: CollectorTiming = PATIENT
) -> EventCollector:
    mapping = SsrMapping(hostname="combo1", router="combo1")
    program = CollectorProgram(("/bin/sh", "-c", script), environment, str(index or ""))
    return EventCollector("events", program, mapping, timing=timing)


def number_of(event: Event) -> int | None:
    found = _NUMBER.search(event.tail)
    return int(found[1]) if found else None


def numbers(events: list[Event]) -> list[int]:
    return [number for event in events if (number := number_of(event)) is not None]


# --- Taking in ---


@both_orders
def test_a_child_that_ends_gives_every_event_once(index: Path, order: str) -> None:
    source = collector(index, "--events", 2000, "--order", order)
    taken = drain(source)
    assert numbers(taken.events) == list(range(1, 2001))
    assert taken.position is not None
    assert taken.position.count == source.events == 2000
    assert taken.position.data == b"12000"
    assert (source.malformed, source.starts) == (0, 1)


def test_a_drain_of_a_child_that_stays_ends_when_it_is_quiet_and_nothing_comes_twice(index: Path) -> None:
    taken = drain(collector(index, "--events", 50, "--stay", timing=USUAL))
    assert numbers(taken.events) == list(range(1, 51))
    again = drain(collector(index, "--events", 60, "--stay", timing=USUAL), taken.position)
    assert numbers(again.events) == list(range(51, 61))


def test_a_drain_does_not_wait_for_an_index_file_that_moves_without_events(index: Path) -> None:
    """Such a child stores when it last looked for events."""
    index.write_text("0")
    script = f"echo x; while sleep 0.2; do n=$((n+1)); echo $n > {index}; [ $n = 40 ] && echo late; done"
    taken = drain(shell(script, index, timing=USUAL))
    assert len(taken.events) == 1


def test_the_configuration_diff_of_an_event_keeps_its_lines(index: Path) -> None:
    (event,) = drain(collector(index, "--events", 1)).events
    assert event.type is EventType.ADMIN
    assert b' diff="change 1\n-old \\"a\\"\n+new xxxxxxxxxx" number="1"]' in event.tail


def test_the_index_is_stored_before_the_child_runs_for_the_first_time(index: Path) -> None:
    first, *_ = drain(collector(index, "--events", 3)).batches
    assert first == Batch((), Position("events", 0, ABSENT))


def test_a_child_with_an_index_already_begins_there(index: Path) -> None:
    index.write_text("7")
    taken = drain(collector(index, "--events", 9))
    assert taken.batches[0].position == Position("events", 0, b"17")
    assert numbers(taken.events) == [8, 9]


def test_the_filters_and_what_they_drop_are_counted(index: Path) -> None:
    source = collector(index, "--events", 5, events=Filter(tagdrop={"type": ("ad*",)}))
    taken = drain(source)
    assert taken.events == []
    assert source.filtered == 5
    assert taken.position == Position("events", 0, b"15")


def test_without_an_index_file_events_have_no_position() -> None:
    taken = drain(collector(None, "--events", 5))
    assert numbers(taken.events) == [1, 2, 3, 4, 5]
    assert {batch.position for batch in taken.batches} == {None}


def test_malformed_data_is_forwarded_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    source = shell(r"""printf 'no event \000\377\nevents,type=alarm severity="major" 1\ncut,type=admin a="'""")
    with caplog.at_level(logging.WARNING, "relay"):
        taken = drain(source)
    garbage, alarm, cut = taken.events
    assert garbage.tail == b' type="log" router="combo1" malformed="1"] no event \x00\xff'
    assert alarm.type is EventType.ALARM
    assert cut.tail.endswith(b'malformed="1"] cut,type=admin a="')
    assert source.malformed == 2
    assert "octet 3: " in caplog.text


@pytest.mark.parametrize(
    ("end", "last"),
    [
        ("exit 0", b' type="log" router="combo1" a="2"]'),
        ("kill -9 $$", b' type="log" router="combo1" malformed="1"] e a=2'),
    ],
)
def test_a_last_line_without_a_line_feed_is_whole_when_the_child_ended_well(end: str, last: bytes) -> None:
    source = shell(f"printf 'e a=1\\ne a=2'; {end}")

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) >= 2)

    assert follow(source, play).events[1].tail == last


# --- Nothing is lost ---


@both_orders
def test_the_rest_comes_from_every_stored_position(index: Path, order: str) -> None:
    """A crash leaves the position of some batch. The events up to it and the events after it must be all events."""
    taken = drain(collector(index, "--events", 300, "--order", order, "--size", 2000))
    assert len(taken.batches) > 5
    for nth, batch in list(enumerate(taken.batches))[::-3][::-1]:
        kept = numbers([event for each in taken.batches[: nth + 1] for event in each.events])
        rest = numbers(drain(collector(index, "--events", 300, "--order", order), batch.position).events)
        assert sorted({*kept, *rest}) == list(range(1, 301)), f"after batch {nth}"
    assert rest == [], "behind the last position nothing comes again"


@both_orders
def test_a_child_that_dies_anywhere_loses_nothing(index: Path, order: str) -> None:
    """It dies by SIGKILL every 20 events: before, amid or behind a line, or between the line and the index."""
    source = collector(index, "--events", 100, "--order", order, "--die", 20, "--stay", timing=SLOW_CHILDREN)

    async def play(taken: Taken) -> None:
        await until(lambda: 100 in numbers(taken.events), 60)

    taken = follow(source, play)
    assert sorted(set(numbers(taken.events))) == list(range(1, 101))
    assert source.starts > 2


@both_orders
def test_a_source_that_is_stopped_anywhere_loses_nothing(index: Path, order: str) -> None:
    events: list[Event] = []
    position: Position | None = None
    for target in range(60, 361, 60):
        arguments = ("--events", 300, "--order", order, "--pause", 0.001, "--stay")
        source = collector(index, *arguments, timing=SLOW_CHILDREN)

        wanted = set(range(1, min(target, 300) + 1)) - set(numbers(events))

        async def play(taken: Taken, wanted: set[int] = wanted) -> None:
            await until(lambda: wanted <= set(numbers(taken.events)), 60)

        taken = follow(source, play, position)
        events += taken.events
        position = taken.position or position
    assert sorted(set(numbers(events))) == list(range(1, 301))


@pytest.mark.parametrize("script", ["{}", "setsid sh -c '{}' & exit 0"], ids=["itself", "as a daemon"])
def test_a_child_is_killed_when_relay_dies(tmp_path: Path, script: str) -> None:
    """Otherwise it would move the index file while the next child uses it."""
    told = tmp_path / "pid"
    command = ["/bin/sh", "-c", script.format(f"echo $$ > {told}; exec sleep 1000")]
    program = (
        "import asyncio\n"
        "from relay.source.collector.child_process import ChildProcess\n"
        "async def main():\n"
        f"    await ChildProcess.start('it', {command})\n"
        "    await asyncio.sleep(1000)\n"
        "asyncio.run(main())\n"
    )
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", program], os.environ)
    wait_until(lambda: told.exists() and told.read_text(), 60, "the child has written its pid")
    child = int(told.read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_until(lambda: not _runs(child), 60, "the child is dead")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_when_the_subreaper_is_killed_the_childs_helpers_are_killed_too(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    source = shell(f"sh -c 'echo $$ >> {told}; exec sleep 1000' & echo $$ >> {told}; wait")

    async def play(_: Taken) -> None:
        await until(lambda: len(_pids(told)) == 2)
        first = _pids(told)
        for pid in {os.getpgid(pid) for pid in first}:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not any(map(_runs, first)), what="both are dead")

    follow(source, play)


def test_behind_a_disk_that_stalls_the_child_waits(index: Path) -> None:
    """Back-pressure: two batches are read, then nothing until the first is durable; and nothing is lost."""
    source = collector(index, "--events", 3000, "--size", 1000, "--stay")

    async def play(taken: Taken) -> None:
        taken.hold = True
        await until(lambda: len(taken.held) == 1)
        taken.held.pop().set_result(None)  # the index as it was found
        await until(lambda: len(taken.held) == 2)
        await until(lambda: source.lag > 32 * 1024)
        filled = [(0, "")]

        def stands_still() -> bool:
            filled.append((source.lag, index.read_text()))
            return len(filled) > 20 and len(set(filled[-20:])) == 1

        await until(stands_still)
        assert len(taken.held) == 2
        taken.hold = False
        for durable in taken.held:
            durable.set_result(None)
        await until(lambda: len(numbers(taken.events)) == 3000)

    taken = follow(source, play)
    assert numbers(taken.events) == list(range(1, 3001))


def test_a_disk_that_fails_ends_the_source(index: Path) -> None:
    async def submit(batch: Batch) -> asyncio.Future[None]:
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if batch.events:
            durable.set_exception(StorageError("spool", "broken"))
        else:
            durable.set_result(None)
        return durable

    source = collector(index, "--events", 10)
    with pytest.raises(StorageError):
        asyncio.run(asyncio.wait_for(source.run(submit, None, drain=True), 30))


# --- The child's ends ---


def test_a_child_that_ends_is_started_again_and_its_stderr_is_logged(
    index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = collector(index, "--events", 3, "--status", 3, "--words", "no bus\x1b here\n")

    async def play(_: Taken) -> None:
        await until(lambda: source.starts >= 3)

    with caplog.at_level(logging.WARNING, "relay"):
        taken = follow(source, play)
    assert set(numbers(taken.events)) == {1, 2, 3}
    assert "source events says: no bus\\x1b here" in caplog.text
    assert 'its child ended with status 3, saying "no bus\\x1b here"; starting it again in ' in caplog.text


def test_a_child_that_floods_the_log_is_throttled_and_its_events_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flood = "yes words >&2 & tr '\\0' x < /dev/zero >&2 &"
    script = f"{flood} n=0; while :; do n=$((n+1)); echo e number=${{n}}i $n; sleep 0.01; done"
    begun = time.process_time()

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) >= 100)

    with caplog.at_level(logging.WARNING, "relay"):
        taken = follow(shell(script), play)
    assert time.process_time() - begun < 3
    assert numbers(taken.events)[:100] == list(range(1, 101))
    assert re.search("source events said [0-9]+ lines more", caplog.text)
    assert len(caplog.records) < 40 * 21  # seconds that even a busy machine does not need


def test_a_child_that_dies_is_started_again_and_its_helpers_are_killed(tmp_path: Path) -> None:
    """A helper that holds the child's pipes, here even outside its session, must not make it look alive."""
    told = tmp_path / "pids"
    helper = f"setsid sh -c 'echo $$ >> {told}; exec sleep 1000' &"
    source = shell(f"rm -f {told}; {helper} until test -s {told}; do :; done; echo 'events number=1i 1'; exit 1")
    helpers: set[int] = set()

    async def play(_: Taken) -> None:
        def started() -> bool:
            helpers.update(_pids(told))
            return source.starts >= 4

        await until(started)

    follow(source, play)
    assert len(helpers) >= 2
    wait_until(lambda: not any(map(_runs, helpers)), 60, "no helper is left")


def _pids(told: Path) -> list[int]:
    try:
        return [int(pid) for pid in told.read_text().split()]
    except FileNotFoundError:  # not there yet, or taken away by the next child just now
        return []


# --- A child that makes itself a daemon ---


FOREGROUND = "as a daemon does; give its command the option that keeps it in the foreground"


def test_a_child_that_makes_itself_a_daemon_is_read_on_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = tmp_path / "pid"
    daemon = f"echo $$ > {told}; n=0; while :; do n=$((n+1)); echo events number=${{n}}i $n; sleep 0.01; done"
    source = shell(f"setsid sh -c '{daemon}' & until test -s {told}; do :; done; exit 0")

    async def play(taken: Taken) -> None:
        await until(lambda: FOREGROUND in caplog.text)
        before = len(taken.events)
        await until(lambda: len(taken.events) >= before + 20)

    with caplog.at_level(logging.WARNING, "relay"):
        taken = follow(source, play)
    (pid,) = _pids(told)
    assert not _runs(pid)
    assert source.starts == 1
    assert numbers(taken.events) == list(range(1, len(taken.events) + 1))
    (said,) = re.findall("says: (.*)", caplog.text)
    assert said.startswith(f"/bin/sh has ended with status 0 and left {pid} (sh)")
    assert said.endswith(f" running in its place, {FOREGROUND}")


def test_a_daemon_that_has_closed_its_output_is_ended_before_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It never writes an event, and two such daemons would move one index file."""
    told = tmp_path / "pids"
    source = shell(f"setsid sh -c 'echo $$ >> {told}; exec sleep 1000' <&- >/dev/null 2>&1 & exit 0", timing=USUAL)

    async def play(_: Taken) -> None:
        for daemons in range(1, 4):
            await until(lambda: len(_pids(told)) == daemons)  # noqa: B023  it is awaited at once
            assert [_runs(pid) for pid in _pids(told)[:-1]] == [False] * (daemons - 1)

    with caplog.at_level(logging.WARNING, "relay"):
        follow(source, play)
    assert not any(map(_runs, _pids(told)))
    assert re.search(f'its child closed its output, saying ".* {FOREGROUND}"; starting it again', caplog.text)


def test_a_daemon_that_dies_is_started_again_and_its_last_line_is_cut() -> None:
    daemon = 'while kill -0 $1 2>&-; do :; done; printf "e a=1\\ne a="; kill -9 $$'
    source = shell(f"setsid sh -c '{daemon}' sh $$ & exit 0")

    async def play(taken: Taken) -> None:
        await until(lambda: source.starts >= 2)
        assert taken.events[1].tail == b' type="log" router="combo1" malformed="1"] e a='

    follow(source, play)


def test_the_end_of_its_input_asks_a_child_to_end(tmp_path: Path) -> None:
    """As from Telegraf's execd. The input must not end before."""
    told = tmp_path / "told"
    source = shell(f"trap '' TERM; echo events number=1i 1; cat; touch {told}", timing=replace(PATIENT, stop_s=30.0))

    async def play(taken: Taken) -> None:
        await until(lambda: taken.events)

    follow(source, play)
    assert told.exists()
    assert source.starts == 1


def test_a_childs_environment_is_small_and_has_the_additions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    names_alone = "events a='\"'$(env | cut -d= -f1 | tr '\\n' ' ')'\"'"
    source = shell(
        f"echo events b='\"'$RELAY_TEST $LC_ALL $PATH'\"'; echo {names_alone}", environment=("RELAY_TEST=x=y z",)
    )
    values, names = drain(source).events
    assert f' b="x=y z C.UTF-8 {os.environ["PATH"]}"'.encode() in values.tail
    (found,) = re.findall(rb' a="([A-Z_ ]+)', names.tail)
    assert {*found.split()} - {b"OLDPWD", b"SHLVL", b"_"} == {
        b"LC_ALL",
        b"LD_LIBRARY_PATH",
        b"PATH",
        b"PWD",
        b"RELAY_TEST",
        b"TZ",
    }


def test_a_child_has_none_of_relays_rights_and_cannot_get_any() -> None:
    source = shell("grep -E '^(Cap...|NoNewPrivs):' /proc/self/status | while read n s; do echo events $n=0x$s; done")
    found = dict(each.tail.split(b" events ")[1].split(b":=0x") for each in drain(source).events)
    without_a_right_to_reduce_it = os.geteuid() != 0
    assert {int(found[name], 16) for name in (b"CapInh", b"CapPrm", b"CapEff", b"CapAmb")} == {0}
    assert without_a_right_to_reduce_it or int(found[b"CapBnd"], 16) == 0
    assert found[b"NoNewPrivs"] == b"1"


def test_a_child_has_its_signals_as_programs_expect_them() -> None:
    """Python ignores SIGPIPE and SIGXFSZ, which a child would inherit. A signal that nohup ignores stays ignored."""
    (mine,) = re.findall(r"^SigIgn:\t(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    pythons = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert int(mine, 16) & pythons == pythons
    source = shell("grep -E '^Sig(Blk|Ign)' /proc/self/status | while read n s; do echo events $n=0x$s; done")
    assert [event.tail.partition(b"] ")[2] for event in drain(source).events] == [
        b"events SigBlk:=0x%016x" % 0,
        b"events SigIgn:=0x%016x" % (int(mine, 16) & ~pythons),
    ]


def test_the_pause_before_a_start_grows_and_the_status_shows_why() -> None:
    source = shell("exit 4", timing=replace(PATIENT, backoff=Backoff(first=0.02, longest=1000.0, least=0.5)))
    pauses: list[float] = []
    errors: list[str] = []

    async def play(_: Taken) -> None:
        loop = asyncio.get_running_loop()
        for starts in range(1, 6):
            await until(lambda: source.starts == starts)  # noqa: B023  it is awaited at once
            pauses.append(loop.time())
        await until(lambda: source.last_error)
        errors.append(source.last_error)

    follow(source, play)
    assert errors == ["its child ended with status 4"]
    assert pauses[-1] - pauses[0] > (0.02 + 0.04 + 0.08 + 0.16) / 2


def test_a_child_that_fails_fails_a_drain(index: Path) -> None:
    with pytest.raises(UnavailableError, match='ended with status 9, saying "out of luck"'):
        drain(collector(index, "--events", 3, "--status", 9, "--words", "out of luck"))


def test_a_missing_program_is_an_error_at_once() -> None:
    source = EventCollector("events", CollectorProgram(["/no/such/program"]), SsrMapping(hostname="h", router="r"))
    with pytest.raises(NoInputError, match="/no/such/program cannot be run"):
        drain(source)


def test_a_file_that_cannot_be_executed_fails_a_drain(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x00\x01")
    program.chmod(0o755)
    source = EventCollector("events", CollectorProgram([str(program)]), SsrMapping(hostname="h", router="r"))
    with pytest.raises(UnavailableError, match="cannot be run: Exec format error"):
        drain(source)


def test_a_child_that_closes_its_output_and_stays_is_ended() -> None:
    source = shell("echo 'events a=1'; exec 1>&-; exec sleep 1000", timing=USUAL)

    async def play(_: Taken) -> None:
        await until(lambda: source.starts >= 2)

    follow(source, play)


def test_a_child_that_ignores_sigterm_is_killed_with_every_process_that_it_started(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    script = f"trap '' TERM; sleep 1000 & echo $$ $! > {told}.new; mv {told}.new {told}; while :; do sleep 1000; done"

    async def play(_: Taken) -> None:
        await until(told.exists)

    follow(shell(script, timing=replace(PATIENT, stop_s=0.2)), play)
    child, grandchild = map(int, told.read_text().split())
    wait_until(lambda: not _runs(child) and not _runs(grandchild), 60, "both are dead")


def test_an_index_file_that_is_too_large_is_an_error_at_the_start(index: Path) -> None:
    index.write_bytes(b"1" * 100_000)
    with pytest.raises(NoInputError, match="larger than"):
        drain(collector(index, "--events", 3))


def test_an_index_file_that_is_a_pipe_is_an_error_at_the_start(index: Path) -> None:
    """Opening it would wait forever."""
    os.mkfifo(index)
    with pytest.raises(NoInputError, match="it is a pipe"):
        drain(collector(index, "--events", 3))


def test_an_index_file_that_grows_too_large_is_logged_once_and_loses_nothing(
    index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grow = f"head -c 100000 /dev/zero > {index}.new; mv {index}.new {index}"  # at once: it is never half as large
    source = shell(f"echo 'events a=1 1'; {grow}; echo 'events a=2 2'; sleep 1000", index)
    errors: list[str] = []

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) == 2 and source.last_error)
        errors.append(source.last_error)

    with caplog.at_level(logging.WARNING, "relay"):
        taken = follow(source, play)
    assert errors == [f"{index}: it is larger than 61440 octets, and cannot be kept"]
    assert caplog.text.count("its index file cannot be copied at present") == 1
    assert {batch.position.data for batch in taken.batches if batch.position} == {ABSENT}


def test_a_position_of_another_kind_of_source_is_not_restored(index: Path) -> None:
    index.write_text("2")
    other = Position("events", 12, b'{"files":[],"offset":3}')
    taken = drain(collector(index, "--events", 3), other)
    assert numbers(taken.events) == [3]
    assert taken.batches[0].position == Position("events", 12, b"12")
