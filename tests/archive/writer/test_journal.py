"""The journal: whole, torn, and damaged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.archive.identity import SequenceKey
from relay.archive.writer import journal
from relay.archive.writer.journal import MAGIC, DaySizes, Entry, OpenDaySizes, Replay, encode
from relay.archive.writer.seen_identities import MessagePart, SeenMarks, SeenNumbers

MARKS = SeenMarks(
    (SeenNumbers(SequenceKey(b"r", b"5f", b"audit"), ((1, 4), (7, 7)), "192.0.2.7"),),
    (MessagePart(SequenceKey(b"r", b"5f", b"admin"), 3, 1, 2, "192.0.2.7"),),
)
LOG = "r/2024-03-06.log"
ENTRIES = (
    Entry("spool", None, (DaySizes(LOG, 0, 0),)),
    Entry("spool", b"\x01\xff", (DaySizes(LOG, 500, 70, bytes(range(32))),), (), MARKS),
    Entry("spool", b"\x02", (DaySizes("r/2024-03-07.log", 900, 80),), (LOG,)),
)
DATA = MAGIC + b"".join(map(encode, ENTRIES))
ENDS = [len(MAGIC + b"".join(map(encode, ENTRIES[:count]))) for count in range(4)]


def replay(data: bytes) -> tuple[tuple[Entry, ...], Replay]:
    entries: list[Entry] = []
    found = journal.replay(data, entries.append)
    assert found.records == len(entries)
    return tuple(entries), found


def days_of(data: bytes) -> dict[str, DaySizes]:
    days = OpenDaySizes()
    journal.replay(data, days.take)
    return days.days


def test_the_bytes_of_a_record_are_pinned() -> None:
    """Change the format and archives that exist can no longer be read: raise the number in MAGIC, and read both."""
    assert MAGIC == b"relay archive journal 2\n"
    assert encode(ENTRIES[1]).hex() == (
        "52454c41594a320a0000008778a245cabc7a492a96a573706f6f6cc40201ff9194b0722f32303234"
        "2d30332d30362e6c6f67cd01f446c420000102030405060708090a0b0c0d0e0f1011121314151617"
        "18191a1b1c1d1e1f9092919393c40172c4023566c405617564697492920104920707a93139322e30"
        "2e322e37919593c40172c4023566c40561646d696e030102a93139322e302e322e37c20a"
    )


def test_a_whole_journal_is_read_back() -> None:
    assert replay(DATA) == (ENTRIES, Replay(3, torn=False, damaged=False, end=len(DATA)))
    assert replay(MAGIC) == ((), Replay(0, torn=False, damaged=False))


@pytest.mark.parametrize("zeros", [0, 1, 50, 4096])
def test_a_torn_tail_is_no_damage(zeros: int) -> None:
    for cut in range(len(MAGIC), len(DATA)):
        entries, said = replay(DATA[:cut] + bytes(zeros))
        whole = sum(cut >= end for end in ENDS) - 1
        assert entries == ENTRIES[:whole], cut
        assert not said.damaged, cut
        assert said.torn == (cut not in ENDS or zeros > 0)


def test_every_flipped_byte_is_noticed_and_costs_one_record_at_most() -> None:
    for place in range(len(DATA)):
        damaged = bytearray(DATA)
        damaged[place] ^= 0x41
        entries, said = replay(bytes(damaged))
        assert said.damaged, place
        assert len(entries) >= len(ENTRIES) - 1, place
        assert set(entries) <= set(ENTRIES)


@given(st.binary(max_size=300))
def test_any_octets_can_be_replayed(octets: bytes) -> None:
    assert replay(octets)[0] == ()
    replay(MAGIC + octets)
    replay(DATA + octets)


def test_the_open_days_are_those_that_no_record_ends() -> None:
    assert days_of(DATA) == {"r/2024-03-07.log": DaySizes("r/2024-03-07.log", 900, 80)}
    assert days_of(DATA[: ENDS[2]]) == {LOG: DaySizes(LOG, 500, 70, bytes(range(32)))}
