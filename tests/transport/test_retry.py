"""When an attempt is repeated; the times are short and real."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from harness.waiting import wait_until

from relay.errors import PermissionRefusedError, RelayError, UnavailableError
from relay.transport.retry import Backoff, keep_trying


class _Trying:
    """`keep_trying` in a thread. Each attempt has the next of the `outcomes`; the last one repeats."""

    def __init__(self, *outcomes: RelayError | None, longest: float = 60.0, files: Sequence[str] = ()) -> None:
        self.attempts = 0
        self.noted: list[tuple[RelayError, float]] = []
        self.stopped = threading.Event()
        self._outcomes = list(outcomes)
        self._longest = longest
        self._files = files
        self._thread = threading.Thread(target=self._try, daemon=True)
        self._thread.start()

    def _try(self) -> None:
        backoff = Backoff(longest=self._longest)
        keep_trying(self._attempt, self.stopped, self._note, backoff=backoff, files=self._files)

    def _note(self, error: RelayError, pause: float) -> None:
        self.noted.append((error, pause))

    def _attempt(self) -> None:
        if self.stopped.is_set():
            return
        outcome = self._outcomes[min(self.attempts, len(self._outcomes) - 1)]
        self.attempts += 1
        if outcome is not None:
            raise outcome
        self.stopped.wait(0.001)

    def wait_for_attempts(self, count: int, seconds: float = 60) -> None:
        wait_until(lambda: self.attempts >= count, seconds, lambda: f"{count} attempts, there are {self.attempts}")

    def wait_for_noted(self, count: int) -> None:
        """What is stopped before it has noted a failure never notes it."""
        wait_until(lambda: len(self.noted) >= count, 60, lambda: f"{count} failures, there are {len(self.noted)}")

    def stop(self, seconds: float = 20) -> None:
        self.stopped.set()
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "it goes on although it is stopped"


def _pauses(error: RelayError | None, attempts: int, longest: float) -> list[float]:
    trying = _Trying(error, longest=longest)
    trying.wait_for_noted(attempts)
    trying.stop()
    return [pause for _, pause in trying.noted]


def test_a_retryable_error_is_retried_within_a_second_at_a_random_time() -> None:
    firsts = [_pauses(UnavailableError("server", "down"), 1, 60)[0] for _ in range(20)]
    assert all(0 <= pause <= 1 for pause in firsts)
    assert len(set(firsts)) == len(firsts)


def test_delays_never_exceed_the_longest() -> None:
    assert max(_pauses(UnavailableError("server", "down"), 200, 0.01)) <= 0.01


def test_an_error_that_no_retry_repairs_has_the_longest_delay_every_time() -> None:
    assert set(_pauses(PermissionRefusedError("server", "wrong host key"), 5, 0.05)) == {0.05}


def test_a_successful_attempt_resets_the_delays() -> None:
    """Otherwise the fifth delay would be up to 16 s long, and all five below 1 s only once in a thousand runs."""
    trying = _Trying(*[UnavailableError("server", "down"), None] * 5)
    trying.wait_for_attempts(10)
    trying.stop()
    assert [pause for _, pause in trying.noted if pause > 1] == []


def test_a_stop_ends_the_longest_wait_at_once_without_another_attempt() -> None:
    trying = _Trying(PermissionRefusedError("server", "wrong host key"))
    wait_until(lambda: trying.noted, 60, "the first failure")
    begun = time.monotonic()
    trying.stop()
    assert time.monotonic() - begun < 20  # of the 60
    assert trying.attempts == 1


def _appear(file: Path) -> None:
    file.write_text("key")


def _chmod(file: Path) -> None:
    file.chmod(0o600)


def _replace(file: Path) -> None:
    file.with_suffix(".new").write_text("key")
    file.with_suffix(".new").rename(file)


@pytest.mark.parametrize("repair", [_appear, _chmod, _replace])
def test_a_repaired_file_ends_the_longest_wait(tmp_path: Path, repair: Callable[[Path], None]) -> None:
    file = tmp_path / "key"
    if repair is not _appear:
        file.write_text("key")
        file.chmod(0o644)
    trying = _Trying(PermissionRefusedError("key", "0644"), files=[str(tmp_path / "other"), str(file)])
    trying.wait_for_noted(1)
    repair(file)
    trying.wait_for_attempts(2, seconds=30)  # of the 60
    trying.stop()


@pytest.mark.parametrize(("least", "shortest"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_each_failure_in_a_row_doubles_the_interval_up_to_the_longest(least: float, shortest: float) -> None:
    backoff = Backoff(first=1, longest=10, least=least)
    for failures, interval in [(0, 0.5), (1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (1_000_000, 10)]:
        delays = [backoff.delay(failures, UnavailableError("server", "down")) for _ in range(20)]
        assert all(interval * shortest <= delay <= interval for delay in delays)
        assert len(set(delays)) == (1 if least == 1 else 20)
