"""When does a cursor move? The rule, and the cursor that each proof reaches.

A destination's cursor marks the first message that it still needs of each spool: a block, and a message's index in it.
It moves forward only, durably (`Store.move_cursor`), and only in these cases:

1. A session proves everything sent: the stream is drained, every message is acknowledged, or the archive has committed.
   The cursor moves to the end of everything sent (`everything_sent`).
2. A session proves an earlier part: a drained stream settles a moment later, and a resend window has to pass. The
   cursor moves to the end of everything sent at that earlier time (`everything_sent` then, `settle` now).
3. A session is lost or stopped. The cursor moves to the first message that is not acknowledged, also within a block
   (`session_ended`).
4. An acknowledging far end has refused a message for good. The message is kept in `refused/` and counted, and the
   cursor moves past it with the rest of its interval (as in case 1).
5. A message is at fault (relay.delivery.suspicion). It is kept and counted as well, and the cursor moves past this
   message alone (`past_message`).
6. The next blocks contain no selected message. The cursor moves past them without a proof, while nothing is unproven
   (`past_unselected`).

A probe, a message proven ahead of the cursor, does not move it: the message is left out when the cursor reaches it.

Damaged and deleted blocks are counted as lost when they are read past. The cursor passes them with its next move.

What a socket, a port-forward or an SSH window has accepted proves nothing. A process that is killed leaves the cursor
at its last move, so at most one interval is sent twice.
"""

import msgspec

from relay.delivery.message_selection import MessageSelection
from relay.delivery.sessions.delivery_session import MessageId, ProvenExtent
from relay.delivery.spool_reading import BlockPiece, SpoolReading, selected_before
from relay.spool.both_spools import BothSpools
from relay.spool.cursor import BlockPosition, Cursor
from relay.spool.store import Store


def past_message(cursor: Cursor, message: BlockPiece) -> Cursor:
    """The cursor behind one message, which is the first of its spool from the cursor on."""
    return cursor.at(cursor.reached.exchange(message.spool, message.after))


class CursorMoves:
    """One session's interval: the messages sent since the last proof, and the cursor that a proof of them reaches.

    `proof` is the kind of the session's proof. Memory: the headers of the unproven blocks.
    """

    def __init__(self, store: Store, selection: MessageSelection, reading: SpoolReading, proof: str) -> None:
        self._store = store
        self._selection = selection
        self._reading = reading
        self._proof = proof
        self.messages = 0
        """Selected messages from the cursor to the end of everything sent."""
        self.pieces: list[BlockPiece] = []
        """Sent and unproven, in order, without their payloads."""

    def sent(self, piece: BlockPiece) -> None:
        """Note that a piece was sent, or read and found to contain no selected message."""
        self.messages += piece.left_out + piece.messages
        if piece.messages:
            self.pieces.append(piece._replace(block=piece.block._replace(payload=b"")))

    def everything_sent(self, cursor: Cursor, now: int) -> Cursor:
        """The cursor when everything sent is proven; `now` in microseconds since the epoch."""
        return self._proven(cursor, self._reading.reached, self.messages, now)

    def settle(self, cursor: Cursor, settled: Cursor) -> int:
        """Note that the session has proven `settled`, an `everything_sent` of now or earlier; the messages proven."""
        messages = settled.delivered - cursor.delivered
        self.messages -= messages
        reached = settled.reached
        self.pieces = [piece for piece in self.pieces if piece.after > reached[piece.spool]]
        return messages

    def session_ended(self, cursor: Cursor, extent: ProvenExtent, now: int) -> Cursor | None:
        """The cursor when a session is lost or stopped, and proves only so much; None when it does not move."""
        if extent.everything:
            reached, messages = self._reading.reached, self.messages
            self.pieces = []
        elif extent.up_to is not None:
            reached, messages = self._before(extent.up_to, cursor)
        else:
            return None
        if reached <= cursor.reached:
            return None
        self.messages -= messages
        return self._proven(cursor, reached, messages, now)

    def _before(self, message: MessageId, cursor: Cursor) -> tuple[BothSpools[BlockPosition], int]:
        """The positions up to which everything before a message is sent, and how many messages these are."""
        reached = list(cursor.reached)
        messages = 0
        for index, piece in enumerate(self.pieces):
            messages += piece.left_out
            at = piece.index_of(message)
            if at is not None:
                messages += selected_before(piece, at, self._store, self._selection)
                reached[piece.spool] = (piece.block.header.number, at)
                self.pieces = self.pieces[index:]
                return BothSpools(*reached), messages
            messages += piece.messages
            reached[piece.spool] = piece.after
        return cursor.reached, 0

    def past_unselected(self, cursor: Cursor) -> Cursor | None:
        """The cursor past blocks without a selected message, while nothing is unproven; None when there are none."""
        reached = self._reading.reached
        if reached == cursor.reached:
            return None
        passed = self._proven(cursor, reached, self.messages, cursor.proven_at)
        self.messages = 0
        return msgspec.structs.replace(passed, proof=cursor.proof)

    def _proven(self, cursor: Cursor, reached: BothSpools[BlockPosition], messages: int, now: int) -> Cursor:
        return msgspec.structs.replace(
            cursor.at(reached), proven_at=now, proof=self._proof, delivered=cursor.delivered + messages
        )
