"""When a cursor moves, and where to: each case of relay.delivery.cursor_moves, on a real spool."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from program.history.spools import event, fill, opened

from relay.delivery.cursor_moves import CursorMoves, past_message
from relay.delivery.message_selection import EVERYTHING, MessageSelection
from relay.delivery.sessions.delivery_session import NOTHING_PROVEN, MessageId, ProvenExtent
from relay.delivery.spool_reading import BlockPiece, SpoolReading, first_selected
from relay.spool.cursor import Cursor
from relay.spool.store import Store
from relay.values.event import EventType

START = Cursor(delivered=100, proven_at=3, proof="acknowledged")
NOW = 7


class Session:
    """What a session's loop does: it reads and sends pieces, and asks how far the cursor moves."""

    def __init__(self, store: Store, selection: MessageSelection, cursor: Cursor) -> None:
        self.cursor = store.follow("logs", cursor, selection.types)
        self._reading = SpoolReading(store, "logs", selection, self.cursor)
        self.moves = CursorMoves(store, selection, self._reading, "acknowledged")
        self.sent: list[BlockPiece] = []

    def send(self, pieces: int, messages: int = 0) -> None:
        for _ in range(pieces):
            piece = self._reading.next(None, messages, ())
            assert isinstance(piece, BlockPiece)
            self.moves.sent(piece)
            self.sent.append(piece)

    def close(self) -> None:
        self._reading.close()


@contextmanager
def session(folder: Path, selection: MessageSelection = EVERYTHING, cursor: Cursor = START) -> Iterator[Session]:
    """Two blocks of three audit events are retained, and one of two traffic events is transient."""
    with opened(folder) as store:
        fill(store, [[event(f"{block} {number}") for number in range(3)] for block in (1, 2)])
        fill(store, [[event(str(number), EventType.TRAFFIC) for number in range(2)]])
        running = Session(store, selection, cursor)
        try:
            yield running
        finally:
            running.close()


def message_id(piece: BlockPiece, index: int) -> MessageId:
    kind, number, _ = list(piece.block.messages())[index]
    return MessageId(piece.block.header.run, kind, number)


def test_a_proof_of_everything_moves_the_cursor_to_the_end_of_everything_sent(tmp_path: Path) -> None:
    with session(tmp_path) as running:
        running.send(3)
        proven = running.moves.everything_sent(running.cursor, NOW)
        assert proven.reached == ((3, 0), (2, 0))
        assert (proven.delivered, proven.proven_at, proven.proof) == (108, NOW, "acknowledged")
        assert running.moves.settle(running.cursor, proven) == 8
        assert (running.moves.messages, running.moves.pieces) == (0, [])


def test_a_proof_that_settles_later_moves_the_cursor_no_further_than_what_was_sent_before_it(tmp_path: Path) -> None:
    with session(tmp_path) as running:
        running.send(1)
        earlier = running.moves.everything_sent(running.cursor, NOW)
        running.send(2)
        assert earlier.reached == ((2, 0), (1, 0))
        assert running.moves.settle(running.cursor, earlier) == 3
        assert running.moves.messages == 5
        assert [piece.after for piece in running.moves.pieces] == [(3, 0), (2, 0)]


def test_a_lost_session_moves_the_cursor_to_the_first_unacknowledged_message_within_a_block(tmp_path: Path) -> None:
    with session(tmp_path) as running:
        running.send(3)
        first = ProvenExtent(up_to=message_id(running.sent[1], 2))
        moved = running.moves.session_ended(running.cursor, first, NOW)
        assert moved is not None
        assert moved.reached == ((2, 2), (1, 0))
        assert (moved.delivered, running.moves.messages) == (105, 3)


def test_a_lost_session_that_has_proven_nothing_leaves_the_cursor(tmp_path: Path) -> None:
    with session(tmp_path) as running:
        running.send(3)
        assert running.moves.session_ended(running.cursor, NOTHING_PROVEN, NOW) is None
        first = ProvenExtent(up_to=message_id(running.sent[0], 0))
        assert running.moves.session_ended(running.cursor, first, NOW) is None
        assert running.moves.messages == 8


def test_an_unknown_message_leaves_the_cursor(tmp_path: Path) -> None:
    with session(tmp_path) as running:
        running.send(3)
        unknown = ProvenExtent(up_to=MessageId(b"x" * 8, EventType.AUDIT, 1))
        assert running.moves.session_ended(running.cursor, unknown, NOW) is None


def test_a_stopped_session_that_has_proven_everything_moves_the_cursor_to_the_end(tmp_path: Path) -> None:
    with session(tmp_path) as running:
        running.send(1, messages=2)
        moved = running.moves.session_ended(running.cursor, ProvenExtent(everything=True), NOW)
        assert moved is not None
        assert (moved.reached.retained, moved.delivered) == ((1, 2), 102)
        assert (running.moves.messages, running.moves.pieces) == (0, [])


def test_blocks_without_a_selected_message_are_passed_and_the_last_proof_stays(tmp_path: Path) -> None:
    with session(tmp_path, MessageSelection(1 << EventType.TRAFFIC)) as running:
        assert running.moves.past_unselected(running.cursor) is None
        running.send(2)
        passed = running.moves.past_unselected(running.cursor)
        assert passed is not None
        assert passed.reached == ((3, 0), (1, 0))
        assert (passed.delivered, passed.proven_at, passed.proof) == (100, START.proven_at, START.proof)


def test_the_cursor_moves_past_a_message_at_fault_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        fill(store, [[event(str(number)) for number in range(3)]])
        for start, after in (((1, 0), (1, 1)), ((1, 2), (2, 0))):
            cursor = Cursor(retained=start[0], retained_part=start[1])
            found = first_selected(store, EVERYTHING, cursor, 0)
            assert found is not None
            assert past_message(cursor, found).reached == (after, (1, 0))
