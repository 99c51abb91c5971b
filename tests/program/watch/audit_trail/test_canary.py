"""Whether records arrive: which canaries are due, and when records are missing."""

from relay.program.watch.audit_trail.canary import ARRIVAL, EXCLUDED_AFTER, REPEAT, SILENCE, Canary

SECOND = 1_000_000
BEGIN = 1_000 * SECOND


def listening(*, records_missing: bool = False) -> Canary:
    return Canary.begin(BEGIN, records_missing=records_missing)


def test_no_canary_is_sent_while_records_arrive() -> None:
    canary = listening()
    for second in range(0, 600, 59):
        canary = canary.note_record(BEGIN + second * SECOND, younger=False)
        assert not canary.is_due(BEGIN + (second + 59) * SECOND)


def test_after_a_silence_a_canary_is_sent_and_its_arrival_ends_the_silence() -> None:
    canary = listening()
    assert not canary.is_due(BEGIN + SILENCE - 1)
    assert canary.is_due(BEGIN + SILENCE)
    canary = canary.send(BEGIN + SILENCE)
    assert not canary.is_due(BEGIN + SILENCE + REPEAT - 1)
    assert canary.is_due(BEGIN + SILENCE + REPEAT), "one may be dropped"
    canary = canary.arrive(BEGIN + SILENCE + SECOND)
    assert not canary.is_missing(BEGIN + SILENCE + ARRIVAL)
    assert canary.is_due(BEGIN + 2 * SILENCE + SECOND)


def test_records_are_missing_from_a_canary_that_does_not_arrive_until_one_does() -> None:
    now = BEGIN + SILENCE
    canary = listening().send(now)
    assert not canary.is_missing(now + ARRIVAL - 1)
    assert canary.is_missing(now + ARRIVAL)
    assert not canary.is_due(now + SILENCE - 1)
    assert canary.is_due(now + SILENCE)
    canary = canary.send(now + SILENCE)
    assert canary.is_missing(now + SILENCE), "the next one does not hide that the last is missing"
    assert not canary.arrive(now + SILENCE).is_missing(now + SILENCE)


def test_older_records_that_arrive_meanwhile_give_the_canary_more_time() -> None:
    """The source is catching up: it has not read as far as the canary yet."""
    now = BEGIN + SILENCE
    canary = listening().send(now)
    for _ in range(10):
        now += ARRIVAL - 1
        canary = canary.note_record(now, younger=False)
        assert not canary.is_missing(now)
    assert canary.is_missing(now + ARRIVAL)


def test_after_an_older_record_another_canary_soon_follows_one_that_was_dropped() -> None:
    """A daemon that is starting writes a record of its own, and may drop the first one from the kernel."""
    canary = listening(records_missing=True).send(BEGIN).note_record(BEGIN + SECOND, younger=False)
    assert not canary.is_due(BEGIN + REPEAT)
    assert canary.is_due(BEGIN + SECOND + REPEAT)


def test_no_more_canaries_are_sent_once_only_younger_records_arrive() -> None:
    canary = listening()
    for _ in range(EXCLUDED_AFTER):
        assert not canary.excluded
        canary = canary.send(BEGIN + SILENCE).note_record(BEGIN + SILENCE + SECOND, younger=True)
    assert canary.excluded
    later = BEGIN + 1000 * SILENCE
    assert not canary.is_missing(later)
    assert not canary.is_due(later)


def test_silence_does_not_count_while_relay_accepts_nothing() -> None:
    canary = listening().send(BEGIN + SILENCE).pause(BEGIN + SILENCE + ARRIVAL - 1)
    assert not canary.is_missing(BEGIN + SILENCE + ARRIVAL)
    missing = listening(records_missing=True)
    assert missing.pause(BEGIN).is_missing(BEGIN)


def test_a_canary_that_could_not_be_sent_is_not_awaited() -> None:
    before = listening()
    canary = before.send(BEGIN + SILENCE).fail(before)
    assert not canary.is_missing(BEGIN + SILENCE + ARRIVAL)
    assert not canary.is_due(BEGIN + SILENCE + ARRIVAL)
    assert canary.is_due(BEGIN + 2 * SILENCE)


def test_records_that_were_missing_before_the_start_stay_missing_until_one_arrives() -> None:
    """A restart of relay does not show that auditd works."""
    canary = listening(records_missing=True)
    assert canary.is_missing(BEGIN)
    assert canary.is_due(BEGIN)
    failed = canary.send(BEGIN).fail(canary)
    assert failed.is_missing(BEGIN), "even if no canary could be sent"
    assert not canary.send(BEGIN).arrive(BEGIN).is_missing(BEGIN)
