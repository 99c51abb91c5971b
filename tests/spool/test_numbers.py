"""What damage took is known by the numbers around it, and never guessed."""

from relay.spool.block import CHAIN_START, Header, Span
from relay.spool.losses.gap import LostRange
from relay.spool.losses.numbers import Numbers
from relay.values.event import EventType

AUDIT, SECURITY = EventType.AUDIT, EventType.SECURITY
RUN, LATER = bytes(7) + b"\x01", bytes(7) + b"\x02"


def block(*spans: Span, run: bytes = RUN) -> Header:
    return Header(1, run, 1, 1, 1, 1, 1, spans, (), 1, 0, CHAIN_START, 1)


def missing(kind: EventType, first: int, last: int, run: bytes = RUN) -> LostRange:
    return LostRange(run.hex(), int(kind), first, last, last - first + 1)


def test_a_hole_without_damage_is_not_a_loss() -> None:
    """Events that were refused have numbers too, and are counted elsewhere."""
    numbers = Numbers()
    assert numbers.see(block(Span(AUDIT, 1, 3))) == ()
    assert numbers.see(block(Span(AUDIT, 9, 1))) == ()


def test_a_block_with_a_damaged_payload_is_known_by_its_header() -> None:
    numbers = Numbers()
    assert numbers.miss(block(Span(AUDIT, 5, 2), Span(SECURITY, 1, 1))) == (
        missing(AUDIT, 5, 6),
        missing(SECURITY, 1, 1),
    )
    assert numbers.see(block(Span(AUDIT, 7, 1))) == ()


def test_a_block_with_a_damaged_header_is_known_by_later_events_type_by_type() -> None:
    numbers = Numbers()
    numbers.see(block(Span(AUDIT, 1, 3), Span(SECURITY, 1, 1)))
    assert numbers.miss(None) == ()
    assert numbers.see(block(Span(AUDIT, 6, 1))) == (missing(AUDIT, 4, 5),)
    assert numbers.see(block(Span(AUDIT, 9, 1))) == (), "damage does not explain a hole behind it"
    assert numbers.see(block(Span(SECURITY, 4, 1))) == (missing(SECURITY, 2, 3),)
    assert not numbers.in_doubt & {AUDIT, SECURITY}


def test_a_new_run_begins_with_one() -> None:
    numbers = Numbers()
    numbers.see(block(Span(AUDIT, 100, 1)))
    numbers.miss(None)
    assert numbers.see(block(Span(AUDIT, 3, 1), run=LATER)) == (missing(AUDIT, 1, 2, LATER),)


def test_unknown_losses_are_not_counted() -> None:
    numbers = Numbers()
    numbers.miss(None)
    assert numbers.see(block(Span(AUDIT, 3, 1))) == ()
    first = Numbers(from_the_first=True)
    first.miss(None)
    assert first.see(block(Span(AUDIT, 3, 1))) == (missing(AUDIT, 1, 2),)


def test_a_copy_is_independent() -> None:
    numbers = Numbers()
    numbers.see(block(Span(AUDIT, 1, 3)))
    other = numbers.copy()
    other.miss(None)
    other.see(block(Span(AUDIT, 9, 1)))
    assert numbers.see(block(Span(AUDIT, 4, 1))) == ()
    assert numbers.in_doubt == frozenset()
