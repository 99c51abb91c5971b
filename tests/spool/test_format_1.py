"""A spool of format 1 after an upgrade: read on, never appended to, chained to what follows in format 2."""

import functools
from pathlib import Path

import pytest
from harness.former_spool import LAST_BLOCK, TORN_OCTETS, unpack_former_spool

from relay.events import own_events
from relay.spool.block import FORMAT_VERSION, Block
from relay.spool.commit import Commit, Routing
from relay.spool.cursor import Cursor
from relay.spool.inspection.survey import survey
from relay.spool.inspection.verify import verify
from relay.spool.segments import segment
from relay.spool.segments.segment import SegmentHeader
from relay.spool.spool import RunSeed
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store
from relay.system.disk import Disk
from relay.values.event import Batch, Event, EventType
from relay.values.provenance import Provenance

SENDER = Provenance("10.0.0.7", "", "udp://0.0.0.0:514")
ROUTING = Routing(
    retained=frozenset({EventType.AUDIT, EventType.SYSTEM, EventType.LOG, EventType.RELAY}),
    transient=frozenset({EventType.TRAFFIC}),
)
gap_event = functools.partial(own_events.gap, own_events.Author("h", "h", "", "128T"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return unpack_former_spool(tmp_path)


def opened(state: Path, run: bytes = b"\x33" * 8) -> Store:
    store = Store(Disk(), str(state), segment_size=4096, max_size=1 << 30, run=RunSeed(run, b"a random name 16"))
    store.follow("collector", store.cursor("collector") or Cursor(), 0b1_1111_1111)
    return store


def commit(store: Store, text: bytes) -> None:
    events = [Event(EventType.LOG, 1, b"<13>" + text), Event(EventType.TRAFFIC, 1, b"<13>" + text)]
    numbers = dict.fromkeys(EventType, 1)
    Commit(store, ROUTING, [Batch(events, provenance=SENDER)], numbers, {}, gap_event).write(lambda: 1)


def newest(state: Path) -> Path:
    return max((state / "spool" / "retained").glob("*.segment"))


def formats(state: Path, spool: str = "retained") -> list[int]:
    return [each.format for each in survey(Disk(), f"{state}/spool/{spool}").segments]


def whole(state: Path, spool: str = "retained") -> bool:
    found = verify(Disk(), f"{state}/spool/{spool}", {})
    return not found.broken and found.torn is None


def read(store: Store) -> list[Block]:
    """Every block; damage would fail the test."""
    reader = SpoolReader(store.retained, 1)
    blocks = []
    while (found := reader.read()) is not None:
        assert isinstance(found, Block)
        blocks.append(found)
    reader.close()
    return blocks


def test_it_is_inspected_as_it_lies(state: Path) -> None:
    found = verify(Disk(), f"{state}/spool/retained", {})
    assert (found.broken, found.blocks, found.torn and found.torn.octets) == (0, LAST_BLOCK, TORN_OCTETS)
    assert set(formats(state) + formats(state, "transient")) == {1}


def test_the_torn_tail_is_cut_and_the_next_block_begins_a_chained_segment_of_format_2(state: Path) -> None:
    former = {path: path.read_bytes() for path in (state / "spool" / "transient").glob("*.segment")}
    with opened(state) as store:
        recovery = store.retained.recovery
        assert (recovery.torn, recovery.damage, recovery.left_alone) == (TORN_OCTETS, (), ())
        assert Path(recovery.torn_copy).stat().st_size == TORN_OCTETS
        commit(store, b"after the upgrade")
        commit(store, b"and again")
        blocks = read(store)
    assert formats(state) == [1] * 5 + [2]
    assert formats(state, "transient") == [1, 2]
    assert whole(state)
    assert whole(state, "transient")
    assert {path: path.read_bytes() for path in former} == former
    assert [each.header.number for each in blocks] == list(range(1, LAST_BLOCK + 3))
    assert [each.header.version for each in blocks] == [1] * LAST_BLOCK + [2, 2]
    assert sum(each.header.messages for each in blocks[:LAST_BLOCK]) == 18 + 3 + 1
    assert {span.provenance for each in blocks[:LAST_BLOCK] for span in each.header.spans} == {None}
    assert [each.header.spans[0].provenance for each in blocks[-2:]] == [SENDER, SENDER]
    with opened(state, b"\x44" * 8) as store:
        commit(store, b"after a restart")
        assert len(read(store)) == LAST_BLOCK + 3
    assert formats(state) == [1] * 5 + [2]


def test_a_damaged_header_of_the_newest_segment_does_not_change_its_format(state: Path) -> None:
    path = newest(state)
    data = bytearray(path.read_bytes())
    data[9] = FORMAT_VERSION  # as if it were of format 2; its CRC shows that it is not
    path.write_bytes(data)
    with opened(state) as store:
        assert store.retained.recovery.torn == TORN_OCTETS
        commit(store, b"after the upgrade")
        assert len(read(store)) == LAST_BLOCK + 1
    assert formats(state) == [1] * 5 + [2]


def test_a_segment_without_a_block_is_replaced_by_one_of_format_2(state: Path) -> None:
    """A crash came between its making and its first block."""
    with opened(state) as store:
        retained = store.retained
        made = SegmentHeader(retained.id, LAST_BLOCK + 1, 1, read(store)[-1].header.chain, version=1)
    segment.create(Disk(), retained.folder, made, 4096).close()
    assert formats(state) == [1] * 6
    with opened(state) as store:
        commit(store, b"after the upgrade")
        assert [each.header.number for each in read(store)] == list(range(1, LAST_BLOCK + 2))
    assert formats(state) == [1] * 5 + [2]
    assert whole(state)


def test_a_block_whose_events_were_refused_is_cut_off_also_in_format_1(state: Path) -> None:
    with opened(state) as store:
        last = read(store)[-1].header
        store.slots.put("tried", b'["%b"]' % last.chain.hex().encode())
    with opened(state) as store:
        assert store.retained.next_number == last.number
        commit(store, b"in its place")
        blocks = read(store)
        assert [each.header.number for each in blocks] == list(range(1, last.number + 1))
        assert blocks[-1].header.version == FORMAT_VERSION
    assert whole(state)


def test_damage_in_a_segment_of_format_1_costs_one_block(state: Path) -> None:
    path = newest(state)
    data = bytearray(path.read_bytes())
    data[segment.HEADER_LENGTH + 20] ^= 1  # in the header of block 5; block 6 is found by its magic
    path.write_bytes(data)
    with opened(state) as store:
        commit(store, b"after the upgrade")
    found = verify(Disk(), f"{state}/spool/retained", {})
    assert ([each.block for each in found.breaks], found.lost, found.blocks) == ([5], 1, LAST_BLOCK)
