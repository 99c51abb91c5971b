"""The framings of RFC 6587, compared with octets written by hand, however the stream is cut."""

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

import pytest
from harness.fuzz import cut, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import DataError, ProtocolError
from relay.syslog.framing import NUL, Decoder, FramingError, UnframableError, non_transparent, octet_counted
from relay.values.provenance import ReceiptMark

# RFC 5424 section 6.5, example 1. The BOM counts as three octets.
SU = (
    b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - "
    b"\xef\xbb\xbf'su root' failed for lonvick on /dev/pts/8"
)
COUNTED = b"110 <34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - "
COUNTED += b"\xef\xbb\xbf'su root' failed for lonvick on /dev/pts/8"

STREAM = (
    b"9 <1>1 - - \n"  # a stray LF after a counted frame
    b"4 12 <"  # a counted message need not begin with < before the first trailed one
    b"<34>Oct 11 22:14:15 h su: x\n"
    b"<2>with CR LF\r\n"
    b"\r\n\n"
    b"5 <3>\n\n"  # a counted message may hold and end with LF
    b"<4>last\n"
)
MESSAGES = [b"<1>1 - - ", b"12 <", b"<34>Oct 11 22:14:15 h su: x", b"<2>with CR LF", b"<3>\n\n", b"<4>last"]


def decode(pieces: Iterable[bytes], decoder: Decoder | None = None) -> list[bytes]:
    decoder = decoder or Decoder()
    return [message for piece in pieces for message in decoder.receive(piece)]


def octets(stream: bytes) -> Iterator[bytes]:
    return (stream[at : at + 1] for at in range(len(stream)))


class TestWriting:
    def test_a_message_is_framed_by_its_octets_not_its_letters(self) -> None:
        assert len(SU) == 110
        assert octet_counted(SU) == COUNTED

    def test_a_message_is_framed_by_a_trailer(self) -> None:
        assert non_transparent(b"<1>x") == b"<1>x\n"
        assert non_transparent(b"<1>x\n", trailer=b"\0") == b"<1>x\n\0"

    @pytest.mark.parametrize("message", [b"<1>x\ny", b"<1>x\n", b""])
    def test_a_message_that_a_trailer_cannot_frame_is_refused(self, message: bytes) -> None:
        with pytest.raises(UnframableError, match=r"octet-counting$") as caught:
            non_transparent(message)
        assert isinstance(caught.value, DataError)

    def test_an_empty_message_cannot_be_counted(self) -> None:
        with pytest.raises(UnframableError, match="empty"):
            octet_counted(b"")


class TestReading:
    def test_both_framings_are_distinguished_frame_by_frame(self) -> None:
        assert decode([STREAM]) == MESSAGES

    def test_a_stream_may_arrive_octet_by_octet(self) -> None:
        assert decode(octets(STREAM)) == MESSAGES

    @pytest.mark.parametrize("cut", range(len(STREAM) + 1))
    def test_a_stream_may_be_cut_anywhere(self, cut: int) -> None:
        assert decode([STREAM[:cut], STREAM[cut:]]) == MESSAGES

    def test_empty_reads_change_nothing(self) -> None:
        assert decode([b"", STREAM[:5], b"", STREAM[5:], b""]) == MESSAGES

    def test_a_tail_is_kept_for_later(self) -> None:
        decoder = Decoder()
        assert decoder.receive(COUNTED + COUNTED[:50]) == [SU]
        assert decoder.partial
        assert decoder.receive(COUNTED[50:]) == [SU]
        assert decoder.finish() == []
        assert not decoder.partial

    def test_a_message_is_returned_as_soon_as_its_last_octet_arrives(self) -> None:
        decoder = Decoder()
        assert decoder.receive(COUNTED[:-1]) == []
        assert decoder.receive(COUNTED[-1:]) == [SU]

    @pytest.mark.parametrize("rest", [b"1", b"110", b"110 ", b"110 <34>", b"0", b"0110 <34>1 x\n"])
    def test_the_end_inside_a_counted_frame_is_reported_and_is_not_a_message(self, rest: bytes) -> None:
        for pieces in ([COUNTED + rest], octets(COUNTED + rest)):
            decoder = Decoder()
            assert decode(pieces, decoder) == [SU]
            assert decoder.finish() == []
            assert decoder.partial

    def test_the_end_between_frames_is_not_an_error(self) -> None:
        decoder = Decoder()
        decoder.receive(STREAM + b"\n")
        assert decoder.finish() == []
        assert not decoder.partial


@pytest.mark.parametrize("bytewise", [False, True])
class TestBrokenStreams:
    CASES = (b"0 <1>", b"000 x", b"1234567890 <1>", b"4294967296 <1>1 - ", b"00099999999999 x")

    @pytest.mark.parametrize("broken", CASES)
    def test_messages_before_a_bad_length_are_returned_and_the_rest_is_refused(
        self, broken: bytes, bytewise: bool
    ) -> None:
        decoder = Decoder()
        received: list[bytes] = []
        for piece in octets(COUNTED + broken) if bytewise else [COUNTED + broken]:
            received += decoder.receive(piece)
            if decoder.error:
                break
        assert received == [SU]
        assert decoder.error is not None
        assert decoder.error.offset == len(COUNTED)
        assert isinstance(decoder.error, ProtocolError)
        with pytest.raises(FramingError, match=f"octet {len(COUNTED)}:"):
            decoder.receive(b"<1>ok\n")
        with pytest.raises(FramingError):
            decoder.finish()

    def test_a_length_of_ten_digits_before_a_priority_is_bad_at_the_beginning_too(self, bytewise: bool) -> None:
        decoder, stream = Decoder(), b"4294967296 <1>1 - - - - - -\n"
        with pytest.raises(FramingError, match="octet 0:"):
            decode([*(octets(stream) if bytewise else [stream]), b""], decoder)

    def test_nothing_after_the_fault_is_read(self, bytewise: bool) -> None:
        decoder, stream = Decoder(), b"4 <1>a0 <2>b\n"
        received = []
        for piece in octets(stream) if bytewise else [stream]:
            if decoder.error is None:
                received += decoder.receive(piece)
        assert received == [b"<1>a"]

    def test_the_offset_is_right_in_a_later_read_too(self, bytewise: bool) -> None:
        decoder, before = Decoder(), b"4 <1>a\n3 <2>4 <3>c\n"
        decode(octets(before) if bytewise else [before], decoder)
        decode(octets(b"000 ") if bytewise else [b"0", b"00 "], decoder)
        assert decoder.error is not None
        assert decoder.error.offset == len(before)


class Vector(NamedTuple):
    """A stream, and the messages that it holds; the last ones are unterminated."""

    stream: bytes
    messages: list[bytes]
    unterminated: int = 0
    partial: bool = False


NEAR_2026 = b"2026 <1>" + b"x" * 2023
VECTORS = {
    "month first": Vector(b"Nov 30 10:15:32 fw1 su: x\nNov 30 y\n", [b"Nov 30 10:15:32 fw1 su: x", b"Nov 30 y"]),
    "date first": Vector(
        b"2026-11-30T10:02:54.464+01:00 h x\n2026-11-30 y\n", [b"2026-11-30T10:02:54.464+01:00 h x", b"2026-11-30 y"]
    ),
    "year and month first": Vector(
        b"2026 Nov 30 10:15:31 h a\n2027 Jan 1 b\n", [b"2026 Nov 30 10:15:31 h a", b"2027 Jan 1 b"]
    ),
    "a count like a year": Vector(NEAR_2026 + b"5 <1>ab", [NEAR_2026[5:], b"<1>ab"]),
    "a count like a year before a word": Vector(b"2026 Nova" + b"x" * 2022 + b"1 y", [b"Nova" + b"x" * 2022, b"y"]),
    "seconds of the epoch first": Vector(
        b"1764500000 h a\n1764500001.12 h b\n", [b"1764500000 h a", b"1764500001.12 h b"]
    ),
    "percent": Vector(b"%ASA-6-302013: Built\n", [b"%ASA-6-302013: Built"]),
    "json": Vector(b'{"level":"info"}\n', [b'{"level":"info"}']),
    "space": Vector(b" <14>1 - x\n 9 <14>abcde\n", [b" <14>1 - x", b" 9 <14>abcde"]),
    "nul": Vector(b"\0<14>a\n\0\n<14>b\n\0", [b"<14>a", b"<14>b"]),
    "bom": Vector(b"\xef\xbb\xbf<14>a\n\xef\xbb\xbf9 <14>abcde\n", [b"\xef\xbb\xbf<14>a", b"\xef\xbb\xbf9 <14>abcde"]),
    "bom counted": Vector(b"8 \xef\xbb\xbf<14>a8 \xef\xbb\xbf<14>b", [b"\xef\xbb\xbf<14>a", b"\xef\xbb\xbf<14>b"]),
    "counts behind a line": Vector(
        b"x\n8 \xef\xbb\xbf<14>a6  <14>b12 apples\n", [b"x", b"\xef\xbb\xbf<14>a", b" <14>b", b"12 apples"]
    ),
    "latin 1": Vector(b"\xe4\xf6\n", [b"\xe4\xf6"]),
    "leading zeros": Vector(b"0005 <1>ab00000000000005 <1>cd05 <1>ef", [b"<1>ab", b"<1>cd", b"<1>ef"]),
    "leading zeros behind a line": Vector(b"<1>\n0005 <1>ab007 spies\n", [b"<1>", b"<1>ab", b"007 spies"]),
    "zero": Vector(b"0 <14>zero\n000 x\n", [b"0 <14>zero", b"000 x"]),
    "zeros without end": Vector(b"0" * 40 + b" <1>x\n", [b"0" * 40 + b" <1>x"]),
    "a count without a priority": Vector(
        b"12 apples and p4 earsNov 30\n4 x\n", [b"apples and p", b"ears", b"Nov 30", b"4 x"]
    ),
    "a count and a tab": Vector(b"9\t<14>abcde\n", [b"9\t<14>abcde"]),
    "no length": Vector(b"4 <1>a1_0 <1>\n12x <1>\n-9 <1>\n", [b"<1>a", b"1_0 <1>", b"12x <1>", b"-9 <1>"]),
    "LF, NUL and CR between": Vector(b"\r\n\0<1>a\n\0<2>b\r\n\r\n\0\r5 <3>cd\0\n", [b"<1>a", b"<2>b", b"<3>cd"]),
    "a request behind a message": Vector(
        b"<1>a\nGET / HTTP/1.1\r\n\x16\x03\x01\n", [b"<1>a", b"GET / HTTP/1.1", b"\x16\x03\x01"]
    ),
    "last line without LF": Vector(b"<14>a\n<14>b", [b"<14>a", b"<14>b"], 1),
    "last line with CR": Vector(b"<14>a\r", [b"<14>a"], 1),
    "only a word": Vector(b"word", [b"word"], 1),
    "last line of digits": Vector(b"<14>a\n12 ", [b"<14>a", b"12 "], 1),
    "only seconds of the epoch": Vector(b"1764500000", [b"1764500000"], 1),
    "only a zero": Vector(b"0", [b"0"], 1),
    "only a length": Vector(b"12", [], partial=True),
    "a counted frame unfinished behind lines": Vector(b"<14>a\n9 <14>abc", [b"<14>a"], partial=True),
}


@pytest.mark.parametrize("name", VECTORS)
def test_what_others_keep_is_kept_however_it_is_cut(name: str) -> None:
    vector = VECTORS[name]
    cuts = range(min(len(vector.stream), 60) + 1)
    for pieces in ([vector.stream], octets(vector.stream), *([vector.stream[:at], vector.stream[at:]] for at in cuts)):
        decoder = Decoder()
        received = decode(pieces, decoder)
        last = decoder.finish()
        assert received + last == vector.messages
        assert len(last) == vector.unterminated
        assert decoder.marks == ({0: ReceiptMark.UNTERMINATED} if last else {})
        assert decoder.partial is vector.partial


class TestLinesOfATrailedStream:
    """Senders of non-transparent framing do not escape an LF inside a message."""

    STREAM = b"<1>a\nrest\n12 apples\n12\n123456789012 x\n4 <2>b<3>c\n7\r\n"
    MESSAGES = (b"<1>a", b"rest", b"12 apples", b"12", b"123456789012 x", b"<2>b", b"<3>c", b"7")

    def test_every_line_is_a_message_and_a_count_before_a_priority_is_still_one(self) -> None:
        assert decode([self.STREAM]) == list(self.MESSAGES)

    def test_however_it_is_cut(self) -> None:
        for at in range(len(self.STREAM)):
            assert decode([self.STREAM[:at], self.STREAM[at:]]) == list(self.MESSAGES)
        assert decode(octets(self.STREAM)) == list(self.MESSAGES)

    def test_a_long_line_is_cut(self) -> None:
        decoder = Decoder(max_message_size=9)
        assert decode([b"<1>a\n", b"x" * 8, b"y" * 8, b"\n<1>b\n"], decoder) == [b"<1>a", b"xxxxxxxxy", b"<1>b"]
        assert (decoder.oversized, decoder.dropped) == (1, 7)


class TestNul:
    """NUL is a trailer in a stream whose first trailed frame ends with it, and an ordinary octet inside others."""

    STREAM = b"4 <\0>a<1>a\0<2>b\r\0<3>c\nrest\0\0\n4 <4>d7 apples\0"
    MESSAGES = (b"<\0>a", b"<1>a", b"<2>b", b"<3>c", b"rest", b"<4>d", b"7 apples")

    def test_a_stream_may_have_nul_as_its_trailer_however_it_is_cut(self) -> None:
        for at in range(len(self.STREAM) + 1):
            assert decode([self.STREAM[:at], self.STREAM[at:]]) == list(self.MESSAGES)
        assert decode(octets(self.STREAM)) == list(self.MESSAGES)

    def test_a_message_is_returned_as_soon_as_its_nul_arrives(self) -> None:
        decoder = Decoder()
        assert decoder.receive(b"<1>a\0") == [b"<1>a"]
        assert not decoder.partial
        assert decoder.finish() == []

    def test_nul_ends_no_message_of_a_stream_whose_first_ended_with_an_lf(self) -> None:
        stream = b"<1>a\n<2>b\0c\n4 <\0>d\0\n"
        assert decode([stream]) == decode(octets(stream)) == [b"<1>a", b"<2>b\0c", b"<\0>d"]

    def test_a_long_message_is_cut_and_ends_with_its_nul(self) -> None:
        decoder = Decoder(max_message_size=9)
        received = decode([b"<1>a\0<1>", b"x" * 8, b"y" * 8, b"\0<1>b\0"], decoder)
        assert received == [b"<1>a", b"<1>xxxxxx", b"<1>b"]
        assert decoder.oversized == 1


class TestOversizedMessages:
    INSIDE = b"<1>x\n3 <2>\0"  # an oversized message that looks like two frames

    @pytest.mark.parametrize("bytewise", [False, True])
    def test_a_counted_message_is_cut_and_drained_by_its_count(self, bytewise: bool) -> None:
        stream = b"4 <1>a" + b"%d " % len(self.INSIDE) + self.INSIDE + b"4 <1>b"
        decoder = Decoder(max_message_size=9)
        assert decode(octets(stream) if bytewise else [stream], decoder) == [b"<1>a", self.INSIDE[:9], b"<1>b"]
        assert (decoder.oversized, decoder.dropped) == (1, 2)
        assert decoder.finish() == []
        assert not decoder.partial

    @pytest.mark.parametrize(("came", "kept"), [(b"<1>", b"<1>"), (INSIDE[:9], INSIDE[:9]), (INSIDE[:10], INSIDE[:9])])
    @pytest.mark.parametrize("bytewise", [False, True])
    def test_what_came_of_a_counted_message_that_ends_early_is_kept(
        self, came: bytes, kept: bytes, bytewise: bool
    ) -> None:
        stream = b"4 <1>a" + b"%d " % len(self.INSIDE) + came
        decoder = Decoder(max_message_size=9)
        assert decode(octets(stream) if bytewise else [stream], decoder) == [b"<1>a"]
        assert decoder.finish() == [kept]
        assert decoder.marks == {0: ReceiptMark.CUT | ReceiptMark.UNTERMINATED}
        assert (decoder.oversized, decoder.dropped) == (1, len(came) - len(kept))
        assert decoder.partial  # so the stream is not accepted, and its sender may repeat the message
        assert decoder.finish() == []

    @pytest.mark.parametrize("end", [b"", b"11 "])
    def test_nothing_is_kept_of_a_message_of_which_nothing_came(self, end: bytes) -> None:
        decoder = Decoder(max_message_size=9)
        assert decode([b"4 <1>a" + end], decoder) == [b"<1>a"]
        assert decoder.finish() == []
        assert (decoder.oversized, decoder.partial) == (0, bool(end))

    @pytest.mark.parametrize("bytewise", [False, True])
    def test_the_rest_of_a_long_line_is_dropped_and_never_a_message(self, bytewise: bool) -> None:
        stream = b"<1>a\n<1>4 <1>long3 <1>\n<1>b\n"
        decoder = Decoder(max_message_size=9)
        assert decode(octets(stream) if bytewise else [stream], decoder) == [b"<1>a", b"<1>4 <1>l", b"<1>b"]
        assert (decoder.oversized, decoder.dropped) == (1, 8)

    @pytest.mark.parametrize("frame", [b"9 <1>345678", b"<1>345678\n", b"<1>345678\r\n"])
    @pytest.mark.parametrize("bytewise", [False, True])
    def test_the_limit_itself_is_allowed(self, frame: bytes, bytewise: bool) -> None:
        decoder = Decoder(max_message_size=9)
        assert decode(octets(frame) if bytewise else [frame], decoder) == [b"<1>345678"]
        assert (decoder.oversized, decoder.marks) == (0, {})

    @pytest.mark.parametrize("frame", [b"10 <1>3456789", b"<1>3456789\n", b"<1>3456789\r\n", b"<1>345678\r\r\n"])
    @pytest.mark.parametrize("bytewise", [False, True])
    def test_one_octet_more_than_the_limit_is_cut_and_marked(self, frame: bytes, bytewise: bool) -> None:
        decoder = Decoder(max_message_size=9)
        assert decode(octets(frame) if bytewise else [frame], decoder) == [b"<1>345678"]
        assert decoder.marks == {0: ReceiptMark.CUT}
        assert (decoder.oversized, decoder.dropped) == (1, 1 + frame.endswith(b"\r\n"))
        assert not decoder.partial

    def test_each_mark_is_of_its_message_and_of_one_call(self) -> None:
        decoder = Decoder(max_message_size=5)
        assert decoder.receive(b"<1>a\n<1>abcd\n<1>b\n<1>abcde\n<1>ab") == [b"<1>a", b"<1>ab", b"<1>b", b"<1>ab"]
        assert decoder.marks == {1: ReceiptMark.CUT, 3: ReceiptMark.CUT}
        assert decoder.receive(b"cdef") == []
        assert decoder.marks == {}
        assert decoder.finish() == [b"<1>ab"]
        assert decoder.marks == {0: ReceiptMark.CUT | ReceiptMark.UNTERMINATED}

    @pytest.mark.parametrize("begin", [b"999999999 ", b"<"])
    def test_memory_stays_at_the_limit_and_one_read(self, begin: bytes) -> None:
        decoder = Decoder(max_message_size=1000)
        for piece in [begin, *[100 * b"x"] * 1000]:
            decoder.receive(piece)
            assert len(decoder._begun) <= 1001


prioritised = st.binary(max_size=39).map(lambda text: b"<" + text)
counted = prioritised.map(lambda message: (octet_counted(message), message))
anything_counted = st.binary(min_size=1, max_size=40).map(lambda message: (octet_counted(message), message))
trailed_text = st.binary(max_size=40).map(lambda text: b"<" + text.replace(b"\n", b"").rstrip(b"\r"))
trailed = trailed_text.map(lambda message: (non_transparent(message), message))
by_nul = trailed_text.map(lambda text: text.replace(b"\0", b"").rstrip(b"\r")).map(
    lambda message: (non_transparent(message, NUL), message)
)
by_lf = st.lists(counted | trailed, max_size=10).map(lambda frames: [(b"<>\n", b"<>"), *frames])
one_sender = by_lf | st.lists(counted | by_nul, max_size=10) | st.lists(anything_counted, max_size=10)


@given(one_sender, st.data())
def test_every_framed_message_is_found_however_the_stream_is_cut(
    frames: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(frame for frame, _ in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(pieces) == [message for _, message in frames]


SHARDS = [
    b"<",
    b"\0",
    b"<1>y\0",
    b"1",
    b"12 ",
    b"0",
    b" ",
    b"\n",
    b"\r",
    b"ab",
    b"<1>x\n",
    b"3 <1>",
    b"12345678901234567890",
    b"2026 Nov ",
    b"1764500000 ",
    b"\xef\xbb\xbf",
]


@given(st.binary() | st.lists(st.sampled_from(SHARDS), max_size=30).map(b"".join))
def test_any_octets_decode_alike_whole_and_octet_by_octet(stream: bytes) -> None:
    results = []
    for pieces in ([stream], list(octets(stream))):
        decoder, received = Decoder(max_message_size=11), []
        for piece in pieces:
            received += decoder.receive(piece)
            if decoder.error is not None:
                break
        error = decoder.error
        ended = None if error else decoder.finish()
        counts = (decoder.oversized, decoder.dropped, decoder.partial)
        results.append((received, counts, ended, error and (error.offset, error.cause)))
    assert results[0] == results[1]


# --- 10 million octets: RELAY_FUZZ_OCTETS=10000000 .venv/bin/pytest tests/syslog -k fuzzed --timeout 900


def _stream(random: Random) -> bytes:
    """Frames of one sender: counted, trailed, or a mixture with lines that are neither."""
    frames = []
    for _ in range(random.randrange(1, 40)):
        message = b"<13>" + random.randbytes(random.choice((0, 1, 5, 30, 80, 81, 200)))
        frames.append(
            random.choice(
                (
                    octet_counted(message),
                    message.replace(b"\n", b" ") + random.choice((b"\n", b"\r\n", b"\0")),
                    random.choice((b"12 apples\n", b"rest of a line\n", b"\n", b"2026 Nov 30 x\n", b"{}\n", b"0 x\n")),
                )
            )
        )
    return b"".join(frames)


def test_fuzzed_octets_decode_the_same_whole_and_cut() -> None:
    for random, stream in fuzzed(11, _stream):
        assert _decoded([stream]) == _decoded(cut(random, stream)), stream


def _decoded(pieces: list[bytes]) -> object:
    decoder, messages = Decoder(max_message_size=100), list[tuple[bytes, int]]()
    for piece in pieces:
        if decoder.error is None:
            received = decoder.receive(piece)
            messages += [(message, decoder.marks.get(number, 0)) for number, message in enumerate(received)]
    last = decoder.finish() if decoder.error is None else None
    return messages, last, str(decoder.error), decoder.oversized, decoder.dropped, decoder.partial
