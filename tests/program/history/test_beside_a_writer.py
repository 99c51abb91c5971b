"""Beside a writer at full speed, which deletes small segments, a reader finds nothing broken and nothing twice."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from program.history.spools import event, fill, opened

from relay.program.history.event_filter import EventFilter
from relay.program.history.past_event import PastEvent
from relay.program.history.spool_history import SpoolHistory
from relay.spool.inspection.survey import survey
from relay.spool.inspection.verify import verify
from relay.system.disk import Disk

EVENTS = 1500
LETS_GO_EVERY = 250


def write(folder: Path, looked: threading.Semaphore, *, lets_go: bool) -> None:
    """Write, in parts; each begins when there was a look, so that none is over before anybody has looked."""
    with opened(folder) as store:
        for first in range(0, EVENTS, LETS_GO_EVERY):
            looked.acquire(timeout=60)
            numbers = range(first, first + LETS_GO_EVERY)
            fill(store, ([event(f"{'x' * (number % 700)} {number}", second=number)] for number in numbers))
            if lets_go:
                store.retained.release(first)


def beside_a_writer(folder: Path, look: Callable[[], None], *, lets_go: bool) -> int:
    """Look again and again while the writer works, and once after; returns how often."""
    opened(folder).close()
    looks = 1
    looked = threading.Semaphore(1)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write, folder, looked, lets_go=lets_go)
        while not writing.done():
            look()
            looked.release()
            looks += 1
        writing.result()
    look()
    return looks


def numbers(items: object) -> list[int]:
    found = list(items)  # type: ignore[call-overload]  # whatever a history gives
    assert all(isinstance(item, PastEvent) for item in found), found
    return [int(item.message.rpartition(b" ")[2]) for item in found]


def test_following_gets_every_event_once_and_in_order(tmp_path: Path) -> None:
    opened(tmp_path).close()
    followed, limited = (SpoolHistory(Disk(), str(tmp_path), EventFilter()) for _ in range(2))
    seen: list[int] = []
    also_seen = numbers(limited.newest(5))

    def look() -> None:
        seen.extend(numbers(followed.events()))
        also_seen.extend(numbers(limited.events()))

    assert beside_a_writer(tmp_path, look, lets_go=False) >= EVENTS // LETS_GO_EVERY
    assert seen == also_seen == list(range(EVENTS))


def test_the_newest_are_always_consecutive(tmp_path: Path) -> None:
    ends: list[int] = []

    def look() -> None:
        found = numbers(SpoolHistory(Disk(), str(tmp_path), EventFilter()).newest(20))
        assert found == list(range(found[0], found[0] + len(found))) if found else True
        ends.extend(found[-1:])

    beside_a_writer(tmp_path, look, lets_go=True)
    assert ends == sorted(ends)
    assert ends[-1] == EVENTS - 1


def test_no_check_beside_a_writer_finds_a_break(tmp_path: Path) -> None:
    folder = f"{tmp_path}/spool/retained"

    def look() -> None:
        found = verify(Disk(), folder, {})
        assert (found.broken, found.breaks) == (0, ())
        assert [each.damage for each in survey(Disk(), folder).segments if each.damage] == []

    beside_a_writer(tmp_path, look, lets_go=True)
    assert verify(Disk(), folder, {}).next_number == EVENTS + 1
