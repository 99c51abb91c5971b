"""Messages of every form: what each says about itself, and that no octets at all make the reader fail or slow."""

import time
from datetime import UTC, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from harness.fuzz import fuzzed
from harness.sender_forms import EVERYTHING, RECEIVED, Vector, us
from hypothesis import given
from hypothesis import strategies as st

from relay.syslog import rfc5424
from relay.syslog.lenient.reader import glance, read
from relay.syslog.lenient.reading import FormMark
from relay.syslog.rfc5424 import Element, NotRfc5424Error

LEGAL = (
    b"<0>1 - - - - - -",
    b"<191>1 2026-11-30T09:01:02Z h a p m - text",
    b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \xef\xbb\xbf'su root' failed",
    b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time",
    b'<165>1 2003-10-11T22:14:15.003Z h evntslog - ID47 [a@1 iut="3" x="\\"\\]\\\\ \\n"][b@1 class="high"] x',
    b'<14>1 2026-11-30T06:46:31Z h a 1 ID [a@1 x="1"] [b@1 y="2"] this bracket is MSG',
    b'<109>1 2026-11-30T09:01:02Z r1 relay - - [128T relayRun="ab" relaySeq="7" relayPart="2/5" type="audit"] x',
    b'<109>1 2026-11-30T09:01:02Z r1 relay - - [128T relayRun="ab" relaySeq="7" relayPart="6/5" type="audit"]',
    b"<14>1 0000-01-01T00:00:00Z h - - - -",
)


@pytest.mark.parametrize("vector", EVERYTHING, ids=lambda vector: vector.message[:60].decode("latin-1"))
def test_each_form(vector: Vector) -> None:
    reading = read(vector.message, RECEIVED)
    assert reading.time == (None if vector.time is None else us(vector.time))
    assert (reading.priority, reading.host) == (vector.priority, vector.host)
    assert (reading.app, reading.procid) == (vector.app, vector.procid)
    assert vector.message[reading.msg_at :] == vector.msg
    assert " ".join(reading.marks.labels) == vector.marks
    glanced = glance(vector.message, RECEIVED)
    assert (glanced.host, glanced.time, glanced.marks) == (reading.host, reading.time, reading.marks)


@pytest.mark.parametrize("message", LEGAL)
def test_legal_messages_are_read_as_the_strict_parser_reads_them(message: bytes) -> None:
    strict, reading = rfc5424.parse(message), read(message, RECEIVED)
    assert reading.time == (None if strict.timestamp is None else rfc5424.microseconds(strict.timestamp))
    assert (reading.facility, reading.severity, reading.host) == (strict.facility, strict.severity, strict.hostname)
    assert (reading.app, reading.procid, reading.msgid) == (strict.app_name, strict.procid, strict.msgid)
    assert reading.structured_data == strict.structured_data
    assert message[reading.msg_at :] == (strict.msg or b"")
    assert FormMark.REPAIRED not in reading.marks
    assert glance(message, RECEIVED).identity == rfc5424.identity(message)


def test_what_is_marked_repaired_is_what_the_strict_parser_refuses() -> None:
    for _, stream in fuzzed(5, lambda random: random.choice((*LEGAL, *(vector.message for vector in EVERYTHING)))):
        try:
            rfc5424.parse(stream)
        except NotRfc5424Error:
            is_legal = False
        else:
            is_legal = True
        reading = read(stream, RECEIVED)
        assert not (is_legal and reading.marks & (FormMark.REPAIRED | FormMark.NO_PRI)), stream
        if not reading.marks & ~FormMark.NO_TIME and glance(stream, RECEIVED).identity is not None:
            assert is_legal, stream


def test_structured_data_that_is_not_legal_is_read() -> None:
    head = b"<14>1 2026-11-30T09:01:02Z h a - - "
    twice = read(head + b'[a@1 x="1"][a@1 x="2"] t', RECEIVED)
    assert twice.structured_data == (Element(b"a@1", ((b"x", b"1"),)), Element(b"a@1", ((b"x", b"2"),)))
    bare = read(head + b"[Originator@6876 sub=Vimsvc.ha opID=WFU] t", RECEIVED)
    assert bare.structured_data == (Element(b"Originator@6876", ((b"sub", b"Vimsvc.ha"), (b"opID", b"WFU"))),)
    latin = read(head + b'[a@1 x="\xfc \\" \\]"] t', RECEIVED)
    assert latin.structured_data == (Element(b"a@1", ((b"x", b'\xfc " ]'),)),)
    router = read(b'<38> Jun 5 12:10:07 node0.Spoke1 SSR 128 SESSION_BLOCK [ssr@2636.1.0.0 a="1"] x', RECEIVED)
    assert (router.msgid, router.structured_data) == (b"SESSION_BLOCK", (Element(b"ssr@2636.1.0.0", ((b"a", b"1"),)),))


class TestTheYear:
    @pytest.mark.parametrize(
        ("received", "written", "meant"),
        [
            ("2027-01-01T00:00:03", b"Dec 31 23:59:58", "2026-12-31T23:59:58"),
            ("2026-12-31T23:59:58", b"Jan  1 00:00:03", "2027-01-01T00:00:03"),
            ("2027-03-01T00:00:00", b"Nov 30 09:00:00", "2026-11-30T09:00:00"),
            ("2026-11-30T10:00:00", b"Dec 30 09:00:00", "2026-12-30T09:00:00"),
            ("2026-11-30T10:00:00", b"Feb  5 09:00:00", "2026-02-05T09:00:00"),
            ("2028-02-29T12:00:00", b"Feb 29 11:00:00", "2028-02-29T11:00:00"),
            ("2029-01-10T12:00:00", b"Feb 29 11:00:00", "2028-02-29T11:00:00"),
            ("2026-06-01T12:00:00", b"Feb 29 11:00:00", None),
        ],
    )
    def test_is_that_nearest_to_the_receipt(self, received: str, written: bytes, meant: str | None) -> None:
        found = read(b"<13>%b h1 a: x" % written, us(received))
        assert found.time == (None if meant is None else us(meant))

    def test_a_clock_that_the_device_itself_distrusts_needs_a_year(self) -> None:
        assert read(b"<189>29: *Nov 29 23:00:00: %S-5-C: x", RECEIVED).time == us("2026-11-29T23:00:00")
        assert read(b"<189>29: *Nov 28 23:00:00: %S-5-C: x", RECEIVED).time is None
        assert read(b"<189>29: .Nov 28 23:00:00: %S-5-C: x", RECEIVED).time == us("2026-11-28T23:00:00")

    @pytest.mark.parametrize("received", [-(10**18), 10**18, -(10**30), 10**30, 0])
    def test_no_receipt_is_too_strange(self, received: int) -> None:
        read(b"<13>Nov 30 09:01:02 h1 a: x", received)


class TestTheZone:
    @pytest.mark.parametrize(
        ("zone", "written", "meant"),
        [
            (timezone(timedelta(hours=1)), b"Nov 30 10:01:02", "2026-11-30T09:01:02"),
            (ZoneInfo("Europe/Berlin"), b"Nov 30 10:01:02", "2026-11-30T09:01:02"),
            (ZoneInfo("Europe/Berlin"), b"2026-07-01 10:01:02", "2026-07-01T08:01:02"),
            (ZoneInfo("Europe/Berlin"), b"Nov 30 2026 10:01:02 UTC", "2026-11-30T10:01:02"),
            (ZoneInfo("America/Chicago"), b"Nov 30 2026 03:01:02 CST", "2026-11-30T09:01:02"),
            (ZoneInfo("Asia/Shanghai"), b"Nov 30 2026 17:01:02 CST", "2026-11-30T09:01:02"),
        ],
    )
    def test_that_is_missing_is_the_configured_one(self, zone: tzinfo, written: bytes, meant: str) -> None:
        assert read(b"<13>%b h1 a: x" % written, RECEIVED, zone).time == us(meant)

    def test_a_known_abbreviation_is_certain(self) -> None:
        chicago = ZoneInfo("America/Chicago")
        stamp = b"<13>Nov 30 2026 03:01:02 %b h1 a: x"
        assert FormMark.INFERRED not in read(stamp % b"CST", RECEIVED, chicago).marks
        assert FormMark.INFERRED in read(stamp % b"CST", RECEIVED, UTC).marks
        assert FormMark.INFERRED not in read(stamp % b"CET", RECEIVED, chicago).marks

    def test_in_the_hour_that_a_clock_repeats_the_reading_nearest_to_the_receipt_counts(self) -> None:
        berlin = ZoneInfo("Europe/Berlin")
        written = b"<13>2026-10-25 02:30:00 h1 a: x"
        assert read(written, us("2026-10-25T00:30:01"), berlin).time == us("2026-10-25T00:30:00")
        assert read(written, us("2026-10-25T01:30:01"), berlin).time == us("2026-10-25T01:30:00")


octets = st.one_of(
    st.binary(max_size=200),
    st.text('<>0123456789 :.-[]="\\Tz%*+NovDec\t\0\xffabh', max_size=120).map(lambda text: text.encode("latin-1")),
    st.sampled_from([vector.message for vector in EVERYTHING]).flatmap(
        lambda message: st.tuples(st.integers(0, len(message)), st.binary(max_size=6)).map(
            lambda change: message[: change[0]] + change[1] + message[change[0] :]
        )
    ),
)


@given(octets, st.integers(-(2**62), 2**62))
def test_no_octets_make_it_fail(message: bytes, received: int) -> None:
    reading = read(message, received)
    assert 0 <= reading.priority <= 191
    assert 0 <= reading.msg_at <= len(message)
    assert (reading.time is None) == (FormMark.NO_TIME in reading.marks)
    assert reading.host is None or (reading.host in message and reading.host)
    glanced = glance(message, received)
    assert (glanced.host, glanced.time, glanced.marks) == (reading.host, reading.time, reading.marks)


@pytest.mark.parametrize(
    "piece",
    [b"a", b" ", b"<", b"[", b"[a b=", b'[a b="c"]', b"\\", b'"', b":", b": ", b"1", b"1: ", b"Nov 30 ", b"-", b"- ",
     b"a:", b"a: ", b"0:", b"\xef\xbb\xbf", b"\0", b".", b"1d", b"a[", b"a ", b"x/", b"<1"],
)  # fmt: skip
def test_the_work_is_linear(piece: bytes) -> None:
    """Sixteen times the octets must not take a hundred times as long, whatever they are."""
    heads = (b"", b"<13>", b"<13>1 2026-11-30T09:01:02Z ", b"<13>1 - h a p m ", b"<13>Nov 30 09:01:02 ", b"<13>29: ")
    for head in heads:

        def cost(size: int, head: bytes = head) -> float:
            message = head + piece * (size // len(piece))
            begin = time.process_time()
            read(message, RECEIVED)
            return time.process_time() - begin

        small = min(cost(8_000) for _ in range(3))
        assert min(cost(128_000) for _ in range(2)) < max(100 * small, 0.02), head


def test_the_marks_have_the_ledgers_words() -> None:
    assert FormMark(15).labels == ("no-pri", "repaired", "no-time", "inferred")


def test_the_calendars_last_moment() -> None:
    assert read(b"<14>1 9999-12-31T23:59:59.999999999Z h a - - - x", RECEIVED).time == us("9999-12-31T23:59:59.999999")
