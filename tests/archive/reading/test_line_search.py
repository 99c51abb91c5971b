"""Lines found by text, time and provenance: forward and backward, with and without a ledger."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from harness.made_archive import SECOND, MadeDay
from hypothesis import given
from hypothesis import strategies as st

from relay.archive.layout import days_in
from relay.archive.log_line import escape
from relay.archive.reading.day_log import DayLog, Piece, marks_at
from relay.archive.reading.line_search import (
    ArchivedMessage,
    LineQuery,
    message_of_json,
    needles_for,
    search,
    search_backward,
)
from relay.archive.reading.log_octets import OpenLogs
from relay.archive.reading.originators import OriginatorFolder, originators
from relay.system.disk import Disk

BEGIN = 1_795_996_800 * SECOND  # 2026-11-30


def opened(folder: Path, **attributes: Any) -> DayLog:
    (files,) = days_in(path.name for path in folder.iterdir())
    return DayLog(OriginatorFolder(folder.name, str(folder)), files, OpenLogs(), lambda *_: None, **attributes)


def message(number: int, text: str = "") -> bytes:
    return f"<13>1 2026-11-30T00:00:{number % 60:02}Z fw1 app - - - {text}{number}".encode()


def made(folder: Path, extents: int = 9, each: int = 3) -> MadeDay:
    day = MadeDay("fw1", "2026-11-30")
    for number in range(extents):
        messages = [message(number * each + line, "a\nb\t" if line == 1 else "") for line in range(each)]
        day.extent(BEGIN + number * SECOND, messages, sender=f"192.0.2.{number % 2}", marks={1: ("repaired",)})
    day.save(folder)
    return day


def texts(found: Any) -> list[bytes]:
    return [line.message for _, line in found if isinstance(line, ArchivedMessage)]


@pytest.mark.parametrize("block", [1, 50, 300, 1_048_576])
@pytest.mark.parametrize("ledger", ["whole", "missing", "cut", "damaged", "longer"])
def test_every_line_is_found_in_both_directions_whatever_the_ledger_is(tmp_path: Path, block: int, ledger: str) -> None:
    day = made(tmp_path)
    path = tmp_path / "fw1" / "2026-11-30.ledger"
    octets = path.read_bytes()
    match ledger:
        case "missing":
            path.unlink()
        case "cut":
            path.write_bytes(octets[: len(octets) // 2])
        case "damaged":
            path.write_bytes(octets.replace(b'"off"', b'"of"', 1).replace(b'{"at"', b'{"AT"', 3))
        case "longer":
            log = tmp_path / "fw1" / "2026-11-30.log"
            log.write_bytes(log.read_bytes()[:-40])
    log_lines = (tmp_path / "fw1" / "2026-11-30.log").read_bytes().split(b"\n")[:-1]
    for query in (LineQuery(), LineQuery(piece=lambda _: True)):
        forward = texts(search(opened(tmp_path / "fw1"), query, block=block))
        assert list(map(escape, forward)) == log_lines
        assert texts(search_backward(opened(tmp_path / "fw1", chunk=60), query, block=block)) == forward[::-1]
    for text in (b"app - - - 1", b"a\nb", b"- 13", b"b\t16", b"#", b"nowhere"):
        expected = [line for line in forward if text in line]
        for query in (LineQuery(texts=(text,)), LineQuery(piece=lambda _: True, texts=(text, b"nowhere"))):
            found = texts(search(opened(tmp_path / "fw1", chunk=60), query, block=block))
            assert [line for line in found if text in line] == expected
            found = texts(search_backward(opened(tmp_path / "fw1"), query, block=block))
            assert [line for line in found if text in line] == expected[::-1]
    assert day.log


def test_a_piece_is_ruled_out_and_each_line_has_its_extent(tmp_path: Path) -> None:
    made(tmp_path)
    day = opened(tmp_path / "fw1")

    def from_the_first(piece: Piece) -> bool:
        return piece.extent is not None and piece.extent.sender == "192.0.2.1"

    found_lines = list(search(day, LineQuery(piece=from_the_first)))
    lines = [line for _, line in found_lines]
    assert [time - BEGIN for time, _ in found_lines] == [
        number * SECOND for number in (1, 1, 1, 3, 3, 3, 5, 5, 5, 7, 7, 7)
    ]
    numbers = [day.line_number(line.piece, line.offset) for line in lines]
    assert [line.number for line in lines] == numbers
    for block in (1, 60, 200):
        for query in (LineQuery(), LineQuery(texts=(b"13", b"fw1 app - - - 2"))):
            for found in (search(day, query, block=block), search_backward(day, query, block=block)):
                hits = [line for _, line in found if isinstance(line, ArchivedMessage)]
                assert all(line.number in {-1, day.line_number(line.piece, line.offset)} for line in hits)
    assert numbers == [0, 1, 2] * 4
    assert [day.line_number(line.piece, line.offset) for line in lines[::-1]] == numbers[::-1]
    marks = [
        marks_at(line.piece.extent, number) for line, number in zip(lines, numbers, strict=True) if line.piece.extent
    ]
    assert marks == [(), ("repaired",), ()] * 4


def test_reading_begins_at_an_offset_and_ends_before_one(tmp_path: Path) -> None:
    made(tmp_path)
    day = opened(tmp_path / "fw1", chunk=100)
    lines = [line for _, line in search(day, LineQuery())]
    for place in range(len(lines)):
        rest = [line for _, line in search(day, LineQuery(), begin=lines[place].offset)]
        assert [line[:3] for line in rest] == [line[:3] for line in lines[place:]]
        before = [
            line
            for _, line in search_backward(day, LineQuery(), before=lines[place].offset)
            if isinstance(line, ArchivedMessage)
        ]
        assert [line[:3] for line in before[::-1]] == [line[:3] for line in lines[:place]]
        assert [line.piece.extent for line in (*before[::-1], *rest)] == [line.piece.extent for line in lines]


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    made(tmp_path, 2)
    with (tmp_path / "fw1" / "2026-11-30.log").open("ab") as file:
        file.write(message(98) + b"\n" + message(99))
    day = opened(tmp_path / "fw1")
    assert texts(search(day, LineQuery()))[-1] == message(98)
    assert texts(search_backward(day, LineQuery()))[0] == message(98)
    assert texts(search(day, LineQuery(texts=(b"- - 9",)))) == [message(98)]


@given(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=3), st.binary(max_size=30))
def test_a_line_has_a_needle_when_its_message_has_the_text(wanted: list[bytes], message: bytes) -> None:
    raw = {"raw": message.decode()} if _is_text(message) else {"raw_base64": base64.b64encode(message).decode()}
    lines = {False: escape(message), True: json.dumps({"time": "x", **raw}, ensure_ascii=False).encode()}
    assert message_of_json(lines[True]) == message
    for is_json, line in lines.items():
        needles = needles_for(wanted, is_json=is_json)
        if needles and any(text in message for text in wanted):
            assert any(needle in line.replace(b'": "', b'":"') for needle in needles)


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return bool(message)


def test_folders_of_an_archive(tmp_path: Path) -> None:
    for name in ("fw1", "%2E", "~others", "~disputed/fw1", "~aside/fw2", ".relay"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "fw1")
    (tmp_path / "notes").write_text("")
    found = originators(Disk(), str(tmp_path))
    assert [folder.name for folder in found] == ["%2E", "fw1", "~others", "~disputed/fw1", "~aside/fw2"]
    assert [folder.disputed for folder in found] == [False, False, False, True, False]
