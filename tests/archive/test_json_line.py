"""A line of a JSON archive has what the message says, and the message itself to the octet."""

import json
from datetime import UTC
from pathlib import Path

import pytest
from archive.plain_reader import read_archive
from harness.sender_forms import EVERYTHING, RECEIVED
from hypothesis import given
from hypothesis import strategies as st

from relay.archive.json_line import encode
from relay.archive.reading.line_search import message_of_json
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.values.provenance import Provenance

SENDER = Provenance("192.0.2.7", "SHA256:abc", "ssh://0.0.0.0:2222", "relp")


def test_a_line_is_pinned() -> None:
    message = (
        b'<34>1 2003-10-11T22:14:15.003Z fw1 su - ID47 [a@1 x="1" x="2"][a@1 y="\\"]"] '
        b"\xef\xbb\xbfgr\xc3\xbc\xc3\x9fe\n"
    )
    assert json.loads(encode(message, RECEIVED, SENDER, ("repaired",), UTC)) == {
        "time": "2003-10-11T22:14:15.003Z",
        "received": "2026-11-30T10:00:00.000Z",
        "hostname": "fw1",
        "app_name": "su",
        "procid": None,
        "msgid": "ID47",
        "facility": 4,
        "severity": 2,
        "structured_data": {"a@1": {"x": ["1", "2"], "y": '"]'}},
        "message": "\ufeffgrüße\n",
        "peer": "192.0.2.7",
        "identity": "SHA256:abc",
        "via": "ssh://0.0.0.0:2222 relp",
        "marks": ["repaired"],
        "raw": message.decode(),
    }


def test_what_a_message_does_not_say_is_null() -> None:
    line = json.loads(encode(b"\xff", RECEIVED, None, (), UTC))
    assert {key for key, value in line.items() if value is None} == {
        *("time", "hostname", "app_name", "procid", "msgid", "peer", "identity", "via"),
    }
    assert (line["facility"], line["severity"], line["message"]) == (1, 5, "\\xff")
    assert (line["raw_base64"], "raw" in line) == ("/w==", False)


@pytest.mark.parametrize("received", [-(10**18), 10**30])
def test_a_time_beyond_the_calendar_is_null(received: int) -> None:
    assert json.loads(encode(b"<14>x", received, None, (), UTC))["received"] is None


@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_the_message_is_read_back_to_the_octet(message: bytes) -> None:
    line = encode(message, RECEIVED, SENDER, ("cut",), UTC)
    assert b"\n" not in line
    assert message_of_json(line) == message


def test_every_form_is_one_line() -> None:
    for vector in EVERYTHING:
        line = encode(vector.message, RECEIVED, SENDER, (), UTC)
        assert message_of_json(line) == vector.message
        assert json.loads(line)["hostname"] == (
            None if vector.host is None else vector.host.decode("utf-8", "backslashreplace")
        )


def test_another_format_begins_a_new_part_of_the_day(tmp_path: Path) -> None:
    own = b'<109>1 2026-11-30T09:01:02Z fw1 relay - - [128T relayRun="ab" relaySeq="%d" type="audit"]'
    for number, archive_format in enumerate(("text", "json", "json", "text")):
        with ArchiveWriter(str(tmp_path), "spool", archive_format=archive_format) as archive:
            assert archive.write(own % number, RECEIVED, SENDER)
            archive.commit(b"%d" % number)
            assert not archive.write(own % 0, RECEIVED, SENDER)  # it is compared with the line of another format
            assert not archive.write(own % number, RECEIVED, SENDER)
            archive.commit(b"%d" % number)
    stored = [(line.log, line.line) for line in read_archive(tmp_path)]
    assert [log for log, _ in stored] == [
        *("2026-11-30.2.jsonl", "2026-11-30.2.jsonl", "2026-11-30.3.log", "2026-11-30.log"),
    ]
    messages = [message_of_json(line) if log.endswith("jsonl") else line for log, line in stored]
    assert messages == [own % number for number in (1, 2, 3, 0)]
