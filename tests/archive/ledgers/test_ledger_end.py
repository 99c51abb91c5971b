"""The whole lines of a file, the last first, whatever the chunk cuts."""

from hypothesis import given
from hypothesis import strategies as st

from relay.archive.ledgers.ledger_end import lines_backward, pieces_backward

LINES = st.lists(st.binary(max_size=12).map(lambda octets: octets.replace(b"\n", b"x") + b"\n"), max_size=12)


@given(LINES, st.binary(max_size=20).map(lambda octets: octets.replace(b"\n", b"x")), st.integers(1, 40))
def test_lines_come_backward_and_what_is_being_written_is_left_out(lines: list[bytes], torn: bytes, chunk: int) -> None:
    octets = b"".join(lines) + torn
    reads: list[int] = []

    def read(length: int, offset: int) -> bytes:
        reads.append(length)
        return octets[offset : offset + length]

    found = list(lines_backward(read, len(octets), chunk))
    assert [line.octets for line in found] == lines[::-1]
    assert all(octets[line.offset : line.end] == line.octets for line in found)
    assert max(reads, default=0) <= chunk
    assert b"".join(piece.octets for piece in reversed(list(pieces_backward(read, len(octets), chunk)))) == b"".join(
        lines
    )


def test_only_as_much_is_read_as_is_asked() -> None:
    octets = b"line\n" * 1000
    offsets: list[int] = []

    def read(length: int, offset: int) -> bytes:
        offsets.append(offset)
        return octets[offset : offset + length]

    assert next(lines_backward(read, len(octets), 100)).offset == len(octets) - 5
    assert offsets == [len(octets) - 100]
