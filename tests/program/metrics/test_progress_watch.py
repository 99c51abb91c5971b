"""When a program is healthy: because events move, not because it is alive."""

from relay.program.metrics.progress_watch import (
    COMMIT_SECONDS,
    FAILING_SECONDS,
    SILENT_SECONDS,
    STILL_SECONDS,
    DestinationProgress,
    IntakeProgress,
    ProgressWatch,
)


def server(at: int, end: int, error: str = "", *, required: bool = True, name: str = "log1") -> DestinationProgress:
    return DestinationProgress(name, required, (at, 1), (end, 1), error)


class Program:
    """A program that is looked at once a second."""

    def __init__(self) -> None:
        self.watch = ProgressWatch()
        self.now = 1000.0
        self.intake = IntakeProgress("", None)

    def after(self, seconds: float, *destinations: DestinationProgress) -> str:
        for _ in range(int(seconds)):
            self.now += 1
            self.watch.look(self.now, self.intake, destinations)
        health = self.watch.health(self.now, self.now)
        assert health.is_healthy == health.text.startswith("ok")
        assert "\n" not in health.text
        return health.text


def test_an_idle_program_is_healthy_for_ever() -> None:
    program = Program()
    assert program.after(1) == "ok: nothing waits"
    assert program.after(10_000, server(5, 5)) == "ok: nothing waits"


def test_a_program_whose_proofs_move_is_healthy_although_something_always_waits() -> None:
    program = Program()
    for second in range(1000):
        assert program.after(1, server(second, second + 3)) == "ok: proofs move"


def test_a_server_with_an_error_is_unhealthy_ten_seconds_after_its_last_progress() -> None:
    program = Program()
    program.after(1000, server(5, 5))
    assert program.after(FAILING_SECONDS - 1, server(5, 6, "it is gone")).startswith("ok")
    assert program.after(2, server(5, 6, "it is gone")) == "log1: nothing proven for 11 s: it is gone"
    assert program.after(1, server(6, 6)) == "ok: nothing waits"


def test_an_error_of_a_server_for_which_nothing_waits_is_healthy() -> None:
    assert Program().after(1000, server(5, 5, "it is gone")) == "ok: nothing waits"


def test_without_an_error_a_slow_server_has_five_minutes_for_a_proof() -> None:
    program = Program()
    assert program.after(STILL_SECONDS - 1, server(5, 6)) == "ok: proofs move"
    assert program.after(3, server(5, 9)) == "log1: nothing proven for 301 s"


def test_a_server_that_is_not_required_does_not_count() -> None:
    program = Program()
    assert program.after(1000, server(5, 6, "it is gone", required=False)) == "ok: proofs move"


def test_a_spool_that_cannot_be_written_is_unhealthy_at_once() -> None:
    program = Program()
    program.intake = IntakeProgress("it is full", None)
    assert program.after(1, server(5, 5)) == "the spool cannot be written: it is full"


def test_a_commit_that_does_not_end_is_unhealthy() -> None:
    program = Program()
    program.intake = IntakeProgress("", program.now)
    assert program.after(COMMIT_SECONDS).startswith("ok")
    assert program.after(1) == "the disk has not finished a commit for 11 s"


def test_a_program_whose_event_loop_hangs_is_unhealthy() -> None:
    watch = ProgressWatch()
    watch.look(1000, IntakeProgress("", None), [])
    assert watch.health(1000 + SILENT_SECONDS, 1000).is_healthy
    assert watch.health(1001 + SILENT_SECONDS, 1000).text == "relay does not answer for 11 s"


def test_all_faults_are_in_one_line() -> None:
    program = Program()
    program.intake = IntakeProgress("it is full", None)
    text = program.after(100, server(5, 6, "gone", name="log1"), server(5, 6, "lost", name="log2"))
    assert text.count(";") == 2
