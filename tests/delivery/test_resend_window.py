"""When messages count as delivered although nothing can be proven."""

from relay.delivery.resend_window import ResendWindow
from relay.spool.cursor import Cursor


def at(block: int) -> Cursor:
    return Cursor(retained=block)


def test_a_cursor_reached_before_the_window_is_settled() -> None:
    window = ResendWindow(5.0)
    assert window.settled(0.0, at(1)) is None
    assert window.settled(4.0, at(2)) is None
    assert window.settled(5.0, at(3)) == at(1)
    assert window.settled(6.0, at(3)) is None
    assert window.settled(9.5, at(3)) == at(2)
    assert window.settled(10.0, at(3)) == at(3)


def test_a_window_of_zero_seconds_settles_at_once() -> None:
    window = ResendWindow(0.0)
    assert [window.settled(now, at(block)) for now, block in ((0.0, 1), (0.0, 2), (1.0, 3))] == [at(1), at(2), at(3)]


def test_frequent_questions_keep_few_cursors_and_all_messages_are_settled() -> None:
    window = ResendWindow(5.0)
    settled = [cursor for step in range(2000) if (cursor := window.settled(step / 100, at(step)))]
    assert len(settled) <= 4 * 16
    assert settled == sorted(settled, key=lambda cursor: cursor.retained)
    assert settled[-1].retained > 1400
    assert window.settled(40.0, at(2000)) is not None
    assert window.settled(45.1, at(2000)) == at(2000)
