"""A spool cut at every octet, or with a bit flipped in every octet: the loss is known, reported and minimal.

All bits of every octet are gone through by `scripts/faults --every-bit`.
"""

import pytest
from harness.bad_days import BrokenPromiseError
from harness.every_bit import SEGMENT_SIZE, SEGMENTS, Damage, Specimen, examine

from relay.spool import block
from relay.spool.losses.numbers import Numbers
from relay.spool.segments import segment
from relay.spool.segments.segment_reader import SegmentReader

SPECIMEN = Specimen.make()
SEGMENT_NUMBERS = pytest.mark.parametrize("segment", range(SEGMENTS), ids=["oldest", "middle", "newest"])


def test_the_specimen_has_blocks_in_each_of_its_segments() -> None:
    blocks = [[place for place in SPECIMEN.places.values() if place.segment == each] for each in range(SEGMENTS)]
    assert min(map(len, blocks)) >= 5
    assert [len(data) for _, data in SPECIMEN.files] == [SEGMENT_SIZE] * SEGMENTS


@SEGMENT_NUMBERS
def test_a_flipped_bit_in_any_octet_costs_its_own_block_at_most_and_is_reported(segment: int) -> None:
    damages = [damage for damage in SPECIMEN.flips() if damage.segment == segment]
    assert len(damages) == SEGMENT_SIZE
    for damage in damages:
        examine(SPECIMEN, damage)


@SEGMENT_NUMBERS
def test_a_segment_cut_at_any_octet_costs_the_blocks_behind_it_and_they_are_counted(segment: int) -> None:
    damages = [damage for damage in SPECIMEN.cuts() if damage.segment == segment]
    assert len(damages) == SEGMENT_SIZE
    for damage in damages:
        examine(SPECIMEN, damage)


def a_payload_octet() -> Damage:
    """In the middle of the middle segment's third block."""
    place = [place for place in SPECIMEN.places.values() if place.segment == 1][2]
    return Damage(1, place.end - 10, 3)


def test_a_spool_that_does_not_check_its_payloads_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test."""
    monkeypatch.setattr(block, "check_payload", lambda *_: None)
    with pytest.raises(BrokenPromiseError, match="what is read"):
        examine(SPECIMEN, a_payload_octet())


def test_a_reader_that_gives_up_at_damage_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test."""
    header = next(place for place in SPECIMEN.places.values() if place.segment == 1).start + 20
    monkeypatch.setattr(SegmentReader, "_find", lambda *_: None)
    with pytest.raises(BrokenPromiseError, match="what is read"):
        examine(SPECIMEN, Damage(1, header, 3))


def test_a_spool_that_abandons_a_segment_for_its_header_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test."""
    monkeypatch.setattr(segment, "_restored", lambda *_: None)
    with pytest.raises(BrokenPromiseError, match="left alone"):
        examine(SPECIMEN, Damage(1, 40, 3))


def test_damage_that_is_not_counted_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test."""
    monkeypatch.setattr(Numbers, "miss", lambda *_: ())
    with pytest.raises(BrokenPromiseError, match="what is counted"):
        examine(SPECIMEN, a_payload_octet())
