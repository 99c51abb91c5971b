"""The journal: whole, torn, and damaged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.archive.identity import MessagePart, SeenMarks, SequenceKey
from relay.archive.journal import MAGIC, Entry, FileGrowth, encode, gaps, replay

MARKS = SeenMarks(
    ((SequenceKey(b"r", b"5f", b"audit"), ((1, 4), (7, 7))),),
    (MessagePart(SequenceKey(b"r", b"5f", b"admin"), 3, 1, 2),),
)
ENTRIES = (
    Entry("spool", None, (("r/2024-03-06.log", 0),)),
    Entry("spool", b"\x01\xff", (), (FileGrowth("r/2024-03-06.log", 0, 500),), MARKS),
    Entry("spool", b"\x02", (), (FileGrowth("r/2024-03-06.log", 500, 900),)),
)
DATA = MAGIC + b"".join(map(encode, ENTRIES))
ENDS = [len(MAGIC + b"".join(map(encode, ENTRIES[:count]))) for count in range(4)]


def test_the_bytes_of_a_record_are_pinned() -> None:
    """Change the format and archives that exist can no longer be read: raise the number in MAGIC, and read both."""
    assert MAGIC == b"relay archive journal 1\n"
    assert encode(ENTRIES[1]).hex() == (
        "52454c41594a310a0000005053d022836962c13595a573706f6f6cc40201ff909193b0722f323032"
        "342d30332d30362e6c6f6700cd01f492919293c40172c4023566c405617564697492920104920707"
        "919493c40172c4023566c40561646d696e0301020a"
    )


def test_a_whole_journal_is_read_back() -> None:
    assert replay(DATA) == (ENTRIES, False, False)
    assert replay(MAGIC) == ((), False, False)


@pytest.mark.parametrize("zeros", [0, 1, 50, 4096])
def test_a_torn_tail_is_no_damage(zeros: int) -> None:
    for cut in range(len(MAGIC), len(DATA)):
        said = replay(DATA[:cut] + bytes(zeros))
        whole = sum(cut >= end for end in ENDS) - 1
        assert said.entries == ENTRIES[:whole], cut
        assert not said.damaged, cut
        assert said.torn == (cut not in ENDS or zeros > 0)


def test_every_flipped_byte_is_noticed_and_costs_one_record_at_most() -> None:
    for place in range(len(DATA)):
        damaged = bytearray(DATA)
        damaged[place] ^= 0x41
        said = replay(bytes(damaged))
        assert said.damaged, place
        assert len(said.entries) >= len(ENTRIES) - 1, place
        assert set(said.entries) <= set(ENTRIES)


@given(st.binary(max_size=300))
def test_any_octets_can_be_replayed(octets: bytes) -> None:
    assert replay(octets).entries == ()
    replay(MAGIC + octets)
    replay(DATA + octets)


def test_what_stood_in_a_lost_record_is_a_gap_of_its_files() -> None:
    assert list(gaps(ENTRIES)) == []
    assert list(gaps((ENTRIES[0], ENTRIES[2]))) == [FileGrowth("r/2024-03-06.log", 0, 500)]
