"""The message in a datagram."""

import pytest

from relay.syslog.datagram import datagram_message

TELEGRAF = b"<13>1 2026-11-30T20:00:00Z router1 Telegraf - events -"


@pytest.mark.parametrize(
    ("datagram", "message"),
    [
        (b"<13>a", b"<13>a"),
        (b"<13>a\n", b"<13>a"),
        (b"<13>a\0", b"<13>a"),
        (b"<13>a\n\0", b"<13>a"),
        (b"<13>a\0\n", b"<13>a\0"),
        (b"<13>a\n\n", b"<13>a\n"),
        (b"<13>a\r\n", b"<13>a\r"),
        (b"<13>a\nb\n", b"<13>a\nb"),
        (b"no pri", b"no pri"),
        (b"", b""),
        (b"\n", b""),
        (b"\0", b""),
        (b"\n\0", b""),
        (b"%d %b" % (len(TELEGRAF), TELEGRAF), TELEGRAF),  # Telegraf, by default
        (TELEGRAF + b"\n", TELEGRAF),  # Telegraf with framing = "non-transparent"
        (b"%d %b\n" % (len(TELEGRAF) + 1, TELEGRAF), TELEGRAF),
        (b"%d %b" % (len(TELEGRAF) + 1, TELEGRAF), b"%d %b" % (len(TELEGRAF) + 1, TELEGRAF)),
        (b"5 hello", b"5 hello"),  # text
        (b"0 <13>a", b"0 <13>a"),
        (b"<13>5 <14>a", b"<13>5 <14>a"),
    ],
)
def test_a_datagram_is_one_message_without_its_trailer_or_count(datagram: bytes, message: bytes) -> None:
    assert datagram_message(datagram, len(datagram)) == message


@pytest.mark.parametrize(
    ("received", "length", "message"),
    [
        (b"<13>abc\n", 20, b"<13>abc\n"),  # inside the message, an LF is not a trailer
        (b"<13>abc\0", 20, b"<13>abc\0"),
        (b"17 <13>abc", 20, b"<13>abc"),
    ],
)
def test_of_a_cut_datagram_all_octets_stay(received: bytes, length: int, message: bytes) -> None:
    assert datagram_message(received, length) == message
