"""The auditd watch's judgement: what was seen and heard in, the alarm out."""

import pytest

from relay.program.watch.auditd import AGAIN, ENOUGH, PATIENCE, SILENCE, AuditdObservation, Canary, alarm_wanted
from relay.values.alarm import AUDITD_DOWN

SECOND = 1_000_000
BEGIN = 1_000 * SECOND
FINE = AuditdObservation(enabled=True, daemon=True, unit="active")


def listening(*, standing: bool = False) -> Canary:
    return Canary.begin(BEGIN, standing=standing)


def text(sight: AuditdObservation, canary: Canary | None = None, now: int = BEGIN) -> str:
    alarm = alarm_wanted(sight, canary or listening(), now)
    assert alarm is None or (alarm.name, alarm.severity) == (AUDITD_DOWN, "critical")
    return alarm.text if alarm else ""


@pytest.mark.parametrize(
    ("sight", "words"),
    [
        (FINE, ""),
        (AuditdObservation(enabled=False, daemon=True, unit="active"), "switched off"),
        (AuditdObservation(enabled=True, daemon=False, unit="active"), "no audit daemon"),
        (AuditdObservation(enabled=True, daemon=True, unit="failed"), "unit has failed"),
        (AuditdObservation(enabled=True, daemon=True, unit="inactive"), ""),
        (AuditdObservation(unit="failed"), "unit has failed"),
        (AuditdObservation(unit="inactive"), "not running"),
        (AuditdObservation(unit="active"), ""),
        (AuditdObservation(), ""),
    ],
)
def test_each_broken_link_is_named_and_what_cannot_be_seen_is_not(sight: AuditdObservation, words: str) -> None:
    """A daemon that somebody started by hand needs no unit; without a sight of the kernel the unit must do."""
    assert (words in text(sight)) if words else text(sight) == ""


def test_nothing_is_sent_while_records_come() -> None:
    canary = listening()
    for second in range(0, 600, 59):
        canary = canary.hear(BEGIN + second * SECOND, younger=False)
        assert not canary.is_due(BEGIN + (second + 59) * SECOND)


def test_after_a_silence_a_canary_is_sent_and_its_arrival_is_the_end_of_it() -> None:
    canary = listening()
    assert not canary.is_due(BEGIN + SILENCE - 1)
    assert canary.is_due(BEGIN + SILENCE)
    canary = canary.leave(BEGIN + SILENCE)
    assert not canary.is_due(BEGIN + SILENCE + AGAIN - 1)
    assert canary.is_due(BEGIN + SILENCE + AGAIN), "one may be dropped"
    canary = canary.arrive(BEGIN + SILENCE + SECOND)
    assert text(FINE, canary, BEGIN + SILENCE + PATIENCE) == ""
    assert canary.is_due(BEGIN + 2 * SILENCE + SECOND)


def test_a_canary_that_does_not_arrive_is_an_alarm_until_one_does() -> None:
    now = BEGIN + SILENCE
    canary = listening().leave(now)
    assert text(FINE, canary, now + PATIENCE - 1) == ""
    assert text(FINE, canary, now + PATIENCE) == "no audit records come in"
    assert not canary.is_due(now + SILENCE - 1)
    assert canary.is_due(now + SILENCE)
    canary = canary.leave(now + SILENCE)
    assert text(FINE, canary, now + SILENCE) != "", "the next one does not hide that the last is missing"
    assert text(FINE, canary.arrive(now + SILENCE), now + SILENCE) == ""


def test_older_records_that_come_meanwhile_give_it_more_time() -> None:
    """The source is catching up: the canary is behind what still comes."""
    now = BEGIN + SILENCE
    canary = listening().leave(now)
    for _ in range(10):
        now += PATIENCE - 1
        canary = canary.hear(now, younger=False)
        assert text(FINE, canary, now) == ""
    assert text(FINE, canary, now + PATIENCE) != ""


def test_after_an_older_record_one_that_was_dropped_is_soon_followed_by_another() -> None:
    """A daemon that starts writes a record of its own, and may drop the first that it is sent."""
    canary = listening(standing=True).leave(BEGIN).hear(BEGIN + SECOND, younger=False)
    assert not canary.is_due(BEGIN + AGAIN)
    assert canary.is_due(BEGIN + SECOND + AGAIN)


def test_a_canary_that_audit_rules_keep_out_is_given_up() -> None:
    canary = listening()
    for _ in range(ENOUGH):
        assert not canary.given_up
        canary = canary.leave(BEGIN + SILENCE).hear(BEGIN + SILENCE + SECOND, younger=True)
    assert canary.given_up
    later = BEGIN + 1000 * SILENCE
    assert text(FINE, canary, later) == ""
    assert not canary.is_due(later)


def test_silence_of_ones_own_does_not_count() -> None:
    canary = listening().leave(BEGIN + SILENCE).hold(BEGIN + SILENCE + PATIENCE - 1)
    assert text(FINE, canary, BEGIN + SILENCE + PATIENCE) == ""
    standing = listening(standing=True)
    assert text(FINE, standing.hold(BEGIN), BEGIN) != ""


def test_one_that_could_not_be_sent_is_not_awaited() -> None:
    before = listening()
    canary = before.leave(BEGIN + SILENCE).fail(before)
    assert text(FINE, canary, BEGIN + SILENCE + PATIENCE) == ""
    assert not canary.is_due(BEGIN + SILENCE + PATIENCE)
    assert canary.is_due(BEGIN + 2 * SILENCE)


def test_an_alarm_that_stands_from_before_stands_until_a_record_comes() -> None:
    """A restart of relay is no sign of life of auditd's."""
    canary = listening(standing=True)
    assert text(FINE, canary) != ""
    assert canary.is_due(BEGIN)
    failed = canary.leave(BEGIN).fail(canary)
    assert text(FINE, failed) != "", "also without the right to send one"
    assert text(FINE, canary.leave(BEGIN).arrive(BEGIN)) == ""
