"""RFC 5424 messages, compared with the standard's own examples and octets written by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import DataError
from relay.syslog.rfc5424 import (
    MAX_APP_NAME,
    Element,
    Identity,
    Message,
    NotRfc5424Error,
    encode,
    escape_value,
    format_timestamp,
    hostname,
    identity,
    legal_header,
    legal_name,
    microseconds,
    parse,
)

HEADER = b"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 "
EXAMPLE_SDID = (
    b"exampleSDID@32473",
    ((b"iut", b"3"), (b"eventSource", b"Application"), (b"eventID", b"1011")),
)


class TestTheStandardsOwnExamples:
    """Section 6.5; BOM in its text means the octets EF BB BF."""

    def test_example_1_has_no_structured_data(self) -> None:
        message = (
            b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - "
            b"\xef\xbb\xbf'su root' failed for lonvick on /dev/pts/8"
        )
        parsed = parse(message)
        assert parsed == Message(
            facility=4,
            severity=2,
            timestamp=b"2003-10-11T22:14:15.003Z",
            hostname=b"mymachine.example.com",
            app_name=b"su",
            procid=None,
            msgid=b"ID47",
            msg=b"\xef\xbb\xbf'su root' failed for lonvick on /dev/pts/8",
        )
        assert parsed.declares_utf8
        assert encode(parsed) == message

    def test_example_2_has_a_procid_and_an_offset(self) -> None:
        message = (
            b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - "
            b"%% It's time to make the do-nuts.  %%  Ingredients: Mix=OK, Jelly=OK # Devices: Mixer=OK, "
            b"Jelly_Injector=OK, Frier=OK # Transport: Conveyer1=OK, Conveyer2=OK # %%"
        )
        parsed = parse(message)
        assert (parsed.facility, parsed.severity) == (20, 5)
        assert (parsed.hostname, parsed.app_name, parsed.procid) == (b"192.0.2.1", b"myproc", b"8710")
        assert (parsed.msgid, parsed.structured_data) == (None, ())
        assert parsed.msg is not None
        assert parsed.msg.startswith(b"%% It's time")
        assert not parsed.declares_utf8
        assert encode(parsed) == message

    def test_example_3_has_structured_data(self) -> None:
        message = HEADER + (
            b'[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"] '
            b"\xef\xbb\xbfAn application event log entry..."
        )
        parsed = parse(message)
        assert parsed.structured_data == (EXAMPLE_SDID,)
        assert parsed.msg == b"\xef\xbb\xbfAn application event log entry..."
        assert encode(parsed) == message

    def test_example_4_is_structured_data_only(self) -> None:
        message = HEADER + (
            b'[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]'
        )
        parsed = parse(message)
        assert parsed.structured_data == (EXAMPLE_SDID, (b"examplePriority@32473", ((b"class", b"high"),)))
        assert parsed.msg is None
        assert encode(parsed) == message


class TestTimestamps:
    @pytest.mark.parametrize(
        ("timestamp", "expected"),
        [
            (b"1985-04-12T23:20:50.52Z", 482_196_050_520_000),  # section 6.2.3.1, example 1
            (b"1985-04-12T19:20:50.52-04:00", 482_196_050_520_000),  # example 2: the same moment
            (b"2003-10-11T22:14:15.003Z", 1_065_910_455_003_000),  # example 3
            (b"2003-08-24T05:14:15.000003-07:00", 1_061_727_255_000_003),  # example 4: 12:14:15 UTC
            (b"1970-01-01T00:00:00Z", 0),
            (b"1970-01-01T05:30:00+05:30", 0),
            (b"1969-12-31T23:59:59.999999Z", -1),
            (b"2024-02-29T00:00:00Z", 1_709_164_800_000_000),
            (b"0000-03-01T00:00:00Z", -62_162_035_200_000_000),  # RFC 3339 can write the year 0
        ],
    )
    def test_a_legal_time_stamp_names_its_moment(self, timestamp: bytes, expected: int) -> None:
        assert microseconds(timestamp) == expected

    @pytest.mark.parametrize(
        "timestamp",
        [
            b"2003-08-24T05:14:15.000000003-07:00",  # section 6.2.3.1, example 5: nine fraction digits
            b"2003-10-11t22:14:15Z",
            b"2003-10-11T22:14:15z",
            b"2003-10-11T22:14:15",
            b"2003-10-11T22:14:15.Z",
            b"2003-10-11 22:14:15Z",
            b"2003-10-11T22:14:60Z",  # a leap second
            b"2003-10-11T24:00:00Z",
            b"2003-10-11T23:60:00Z",
            b"2003-13-11T22:14:15Z",
            b"2003-02-29T22:14:15Z",
            b"2003-10-00T22:14:15Z",
            b"2003-10-11T22:14:15+24:00",
            b"2003-10-11T22:14:15+0700",
            b"03-10-11T22:14:15Z",
            b"Oct 11 22:14:15",
            b"",
        ],
    )
    def test_an_illegal_time_stamp_is_refused_alone_and_in_a_message(self, timestamp: bytes) -> None:
        with pytest.raises(ValueError, match=r"2003|written|b''|day|month"):
            microseconds(timestamp)
        with pytest.raises(NotRfc5424Error) as caught:
            parse(b"<34>1 " + timestamp + b" host app - - -")
        assert caught.value.offset == len(b"<34>1 ")

    def test_relays_own_time_stamps_have_three_digits_unless_six_are_needed(self) -> None:
        assert format_timestamp(1_065_910_455_003_000) == b"2003-10-11T22:14:15.003Z"
        assert format_timestamp(1_061_727_255_000_003) == b"2003-08-24T12:14:15.000003Z"
        assert format_timestamp(0) == b"1970-01-01T00:00:00.000Z"
        assert format_timestamp(-1) == b"1969-12-31T23:59:59.999999Z"

    @given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
    def test_a_formatted_time_stamp_reads_back_as_the_same_moment(self, moment: int) -> None:
        assert microseconds(format_timestamp(moment)) == moment

    def test_moments_outside_the_four_digit_years_are_refused(self) -> None:
        with pytest.raises(OverflowError):
            format_timestamp(253_402_300_800_000_000)


class TestStructuredData:
    """Section 6.3.5, and the escapes of section 6.3.3."""

    def test_example_3_with_a_space_between_elements_makes_the_second_one_text(self) -> None:
        """The standard calls it invalid as structured data; it is an MSG instead."""
        parsed = parse(
            HEADER + b'[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"] '
            b'[examplePriority@32473 class="high"]'
        )
        assert parsed.structured_data == (EXAMPLE_SDID,)
        assert parsed.msg == b'[examplePriority@32473 class="high"]'

    def test_example_4_with_a_space_before_the_sd_id_is_refused(self) -> None:
        with pytest.raises(NotRfc5424Error, match="SD-ID") as caught:
            parse(
                HEADER + b'[ exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"]'
                b'[examplePriority@32473 class="high"]'
            )
        assert caught.value.offset == len(HEADER) + 1

    def test_example_5_is_a_name_without_an_at_sign(self) -> None:
        parsed = parse(HEADER + b'[sigSig ver="1" rsID="1234" signature="..."]')
        assert parsed.structured_data[0].id == b"sigSig"
        assert parsed.structured_data[0].params[1] == (b"rsID", b"1234")

    def test_the_messages_of_routers_are_read(self) -> None:
        parsed = parse(HEADER + b'[128T router="r1" node="n1"][ssr@2636.1.0.0 a="b"] x')
        assert [element.id for element in parsed.structured_data] == [b"128T", b"ssr@2636.1.0.0"]

    def test_an_element_may_have_no_parameters_and_a_name_may_be_repeated(self) -> None:
        """The second is section 7.2.5: two ip of one origin."""
        parsed = parse(HEADER + b'[exampleSDID@0][origin ip="192.0.2.1" ip="192.0.2.129"]')
        assert parsed.structured_data[0] == Element(b"exampleSDID@0", ())
        assert parsed.structured_data[1].params == ((b"ip", b"192.0.2.1"), (b"ip", b"192.0.2.129"))

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            (rb"\"", b'"'),
            (rb"\\", b"\\"),
            (rb"\]", b"]"),
            (rb"\\\"", b'\\"'),
            (rb"\n", rb"\n"),  # section 6.3.3: no escape, so both octets stand for themselves
            (b"\\\xc3\xa9", b"\\\xc3\xa9"),
            (b"[= \n\x00", b"[= \n\x00"),
            ("für".encode(), "für".encode()),
            (b"", b""),
        ],
    )
    def test_escapes_are_undone_and_nothing_else(self, written: bytes, meant: bytes) -> None:
        parsed = parse(HEADER + b'[a b="' + written + b'"] m')
        assert parsed.structured_data[0].params == ((b"b", meant),)
        assert parsed.msg == b"m"

    @pytest.mark.parametrize(
        ("data", "place", "rule"),
        [
            (b"", 0, "STRUCTURED-DATA"),
            (b"x", 0, "STRUCTURED-DATA"),
            (b"-x", 1, "one space"),
            (b"[]", 1, "SD-ID"),
            (b"[a", 2, "SD-ELEMENT"),
            (b"[" + 33 * b"a" + b"]", 1, "SD-ID"),
            (b"[a b]", 4, "PARAM-NAME is followed"),
            (b"[a  b]", 3, "PARAM-NAME"),
            (b"[a " + 33 * b"b" + b'="c"]', 3, "PARAM-NAME"),
            (b"[a b='c']", 4, "PARAM-NAME is followed"),
            (b'[a b="c]"]', 7, "escaped"),
            (b'[a b="c', 7, "quote"),
            (b'[a b="c\\"', 9, "quote"),
            (b'[a b="c"', 8, "SD-ELEMENT"),
            (b'[a b="c"d="e"]', 8, "SD-ELEMENT"),
            (b'[a b="c" ]', 9, "PARAM-NAME"),
            (b'[a b="c\xff"]', 7, "UTF-8"),
            (b'[a b="\xed\xa0\x80"]', 6, "UTF-8"),  # a surrogate
            (b'[a b="\xc0\xaf"]', 6, "UTF-8"),  # not the shortest form
            (b"[a][a]", 3, "only once"),
            (b"[a]x", 3, "one space"),
            (b"[\xc3\xa9]", 1, "SD-ID"),
        ],
    )
    def test_a_refusal_names_the_octet_and_the_rule(self, data: bytes, place: int, rule: str) -> None:
        with pytest.raises(NotRfc5424Error, match=rule) as caught:
            parse(HEADER + data)
        assert caught.value.offset == len(HEADER) + place


class TestTheHeader:
    @pytest.mark.parametrize(
        ("message", "offset", "rule"),
        [
            (b"", 0, "PRI"),
            (b"34>1 - - - - - -", 0, "PRI"),
            (b"<192>1 - - - - - -", 0, "PRI"),
            (b"<034>1 - - - - - -", 0, "PRI"),
            (b"<>1 - - - - - -", 0, "PRI"),
            (b"<34>2 - - - - - -", 4, "VERSION"),
            (b"<34>10 - - - - - -", 4, "VERSION"),
            (b"<34>Oct 11 22:14:15 mymachine su: x", 4, "VERSION"),  # RFC 3164
            (b"<34>1 - " + 256 * b"h" + b" - - - -", 8, "HOSTNAME"),
            (b"<34>1 -  - - - -", 8, "HOSTNAME"),
            (b"<34>1 - h\xc3 - - - -", 9, "HOSTNAME"),
            (b"<34>1 - h\n - - - -", 9, "HOSTNAME"),
            (b"<34>1 - - " + 49 * b"a" + b" - - -", 10, "APP-NAME"),
            (b"<34>1 - - - " + 129 * b"p" + b" - -", 12, "PROCID"),
            (b"<34>1 - - - - " + 33 * b"m" + b" -", 14, "MSGID"),
            (b"<34>1 - - - - -", 15, "MSGID"),
        ],
    )
    def test_a_refusal_names_the_octet_and_the_rule(self, message: bytes, offset: int, rule: str) -> None:
        with pytest.raises(NotRfc5424Error, match=rule) as caught:
            parse(message)
        assert caught.value.offset == offset
        assert isinstance(caught.value, DataError)

    def test_the_longest_fields_are_accepted(self) -> None:
        longest = b" ".join([255 * b"h", 48 * b"a", 128 * b"p", 32 * b"m"])
        parsed = parse(b"<191>1 - " + longest + b" -")
        assert (parsed.facility, parsed.severity) == (23, 7)
        assert parsed.msgid == 32 * b"m"

    def test_the_smallest_message_has_only_nil_values(self) -> None:
        assert parse(b"<0>1 - - - - - -") == Message(facility=0, severity=0)

    def test_an_empty_msg_is_not_an_absent_one(self) -> None:
        assert parse(b"<0>1 - - - - - - ").msg == b""
        assert encode(Message(facility=0, severity=0, msg=b"")) == b"<0>1 - - - - - - "

    def test_msg_is_any_octets(self) -> None:
        octets = bytes(range(256))
        assert parse(b"<0>1 - - - - - - " + octets).msg == octets

    def test_the_three_letters_bom_are_text(self) -> None:
        assert not parse(b"<0>1 - - - - - - BOMtext").declares_utf8


class TestWhatIsMadeIsLegal:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("facility", 24),
            ("severity", -1),
            ("timestamp", b"yesterday"),
            ("hostname", b"two words"),
            ("hostname", b"-"),
            ("app_name", b""),
            ("msgid", 33 * b"m"),
            ("structured_data", (Element(b"a=b"),)),
            ("structured_data", (Element(b"a", ((b"]", b""),)),)),
            ("structured_data", (Element(b"a", ((b"b", b"\xff"),)),)),
            ("structured_data", (Element(b"a"), Element(b"a"))),
        ],
    )
    def test_a_message_with_an_illegal_field_cannot_be_made(self, field: str, value: object) -> None:
        with pytest.raises(ValueError, match=r".+"):
            replace(Message(facility=1, severity=1), **{field: value})  # type: ignore[arg-type]  # any field

    @given(st.binary())
    def test_any_value_can_be_escaped_and_is_utf8(self, value: bytes) -> None:
        parsed = parse(HEADER + b'[a b="' + escape_value(value) + b'"]')
        assert parsed.structured_data[0].params == ((b"b", value.decode(errors="replace").encode()),)

    def test_octets_that_are_not_utf8_become_the_replacement_character(self) -> None:
        assert escape_value(b'a"b\\c]d\xff') == b'a\\"b\\\\c\\]d\xef\xbf\xbd'

    @given(st.binary())
    def test_any_name_can_be_made_legal(self, name: bytes) -> None:
        made = legal_name(name)
        assert parse(HEADER + b"[a " + made + b'="1"]').structured_data[0].params == ((made, b"1"),)

    def test_illegal_octets_of_a_name_become_underscores(self) -> None:
        assert legal_name(b'a b=c]d"e\xc3\xa9') == b"a_b_c_d_e__"
        assert legal_name(40 * b"n") == 32 * b"n"
        assert legal_name(b"") == b"_"

    @given(st.binary())
    def test_any_header_field_can_be_made_legal(self, value: bytes) -> None:
        parse(b"<0>1 - - " + legal_header(value, MAX_APP_NAME) + b" - - -")

    def test_illegal_octets_of_a_header_field_become_underscores(self) -> None:
        assert legal_header(b"my host\n", 255) == b"my_host_"
        assert legal_header(b"abc", 2) == b"ab"
        assert legal_header(b"", 255) == b"-"


printable = st.integers(33, 126)


def fields(limit: int) -> st.SearchStrategy[bytes | None]:
    field = st.lists(printable, min_size=1, max_size=limit).map(bytes).filter(lambda text: text != b"-")
    return st.none() | field


names = st.lists(printable.filter(lambda octet: octet not in b'= ]"'), min_size=1, max_size=32).map(bytes)
values = st.text().map(lambda text: text.encode(errors="replace"))
elements = st.builds(Element, names, st.lists(st.tuples(names, values), max_size=4).map(tuple))
messages = st.builds(
    Message,
    facility=st.integers(0, 23),
    severity=st.integers(0, 7),
    timestamp=st.none() | st.integers(0, 253_402_300_799_999_999).map(format_timestamp),
    hostname=fields(255),
    app_name=fields(48),
    procid=fields(128),
    msgid=fields(32),
    structured_data=st.lists(elements, max_size=3, unique_by=lambda element: element.id).map(tuple),
    msg=st.none() | st.binary(),
)


@given(messages)
def test_every_encoded_message_parses_to_the_same(message: Message) -> None:
    encoded = encode(message)
    assert parse(encoded) == message
    assert hostname(encoded) == message.hostname


SHARDS = [
    b"<",
    b"34>",
    b"1 ",
    b"- ",
    b"-",
    b"[",
    b"]",
    b'"',
    b"\\",
    b"=",
    b" ",
    b"a",
    b"\xff",
    b"2003-10-11T22:14:15Z ",
]


@given(st.binary() | st.lists(st.sampled_from(SHARDS), max_size=30).map(b"".join))
def test_no_octets_crash_the_reader(octets: bytes) -> None:
    identity(octets)
    hostname(octets)
    try:
        parsed = parse(octets)
    except NotRfc5424Error as error:
        refused_at = error.offset
    else:
        assert parse(encode(parsed)) == parsed
        return
    assert 0 <= refused_at <= len(octets)


class TestIdentity:
    WHOLE = HEADER + b'[128T relayRun="k3v9" relaySeq="7" type="audit" router="r1" serial="12"] text'
    PART = HEADER + b'[128T@2636 relayRun="k3v9" relaySeq="7" relayPart="2/5" type="audit" router="r1"]'

    def test_a_whole_message_is_part_1_of_1(self) -> None:
        assert identity(self.WHOLE) == Identity(b"k3v9", b"audit", 7, 1, 1)

    def test_a_part_names_its_number_and_the_count_of_parts(self) -> None:
        assert identity(self.PART) == Identity(b"k3v9", b"audit", 7, 2, 5)

    @pytest.mark.parametrize(
        "message",
        [
            HEADER + b'- [128T relayRun="k3v9" relaySeq="7" type="audit"]',  # in MSG
            HEADER + b'[128T a="b"] [128T relayRun="k3v9" relaySeq="7" type="audit"]',  # in MSG after SD
            HEADER + b'[a b="[128T relayRun=\\"k3v9\\" relaySeq=\\"7\\" type=\\"audit\\""]',  # in a value
            HEADER + b'[a b="c"][128T relayRun="k3v9" relaySeq="7" type="audit"]',  # not the first element
            HEADER + b'[128T a="b" relayRun="k3v9" relaySeq="7" type="audit"]',  # not the first parameter
            HEADER + b'[128T relayRun="k3v9" relaySeq="07" type="audit"]',
            HEADER + b'[128T relayRun="k3v9" relaySeq="-7" type="audit"]',
            HEADER + b'[128T relayRun="" relaySeq="7" type="audit"]',
            HEADER + b'[128T relayRun="k3v9" relaySeq="7" relayPart="6/5" type="audit"]',
            HEADER + b'[128T relayRun="k3v9" relaySeq="7" relayPart="0/5" type="audit"]',
            HEADER + b'[128T relayRun="k3v9" relaySeq="7"]',
            b"x" + HEADER + b'[128T relayRun="k3v9" relaySeq="7" type="audit"]',
            b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
            b"",
        ],
    )
    def test_no_other_message_has_an_identity(self, message: bytes) -> None:
        assert identity(message) is None

    def test_the_hostname_is_found_without_a_full_parse(self) -> None:
        assert hostname(self.WHOLE) == b"mymachine.example.com"
        assert hostname(b"<34>1 - - - - - -") is None
        assert hostname(b"<34>1 - " + 256 * b"h" + b" - - - -") is None
        assert hostname(b"<34>Oct 11 22:14:15 mymachine su: x") is None
