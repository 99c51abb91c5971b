"""What rsyslog, syslog-ng and relay read in messages of every form: where both others agree, relay agrees.

Where relay differs on purpose, `DIFFERENCES` has the reason.
"""

import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from harness.parsed import ParsedHeader, ParsingRsyslog, ParsingSyslogNg
from harness.ports import LOOPBACK
from harness.sender_forms import EVERYTHING
from harness.waiting import wait_until

from relay.syslog.framing import octet_counted
from relay.syslog.lenient.reader import read

_A_WHILE: Final = 120.0
_UNREAD: Final = {"", "-", "localhost", LOOPBACK}
"""What either has as host where the message has none, or as program."""

DIFFERENCES: Final = {
    b"\xef\xbb\xbf<14>": "a byte order mark and NUL before PRI are passed over (.NET's StreamWriter sends it)",
    b"\0 <14>": "likewise",
    b"< 14>": "a space in PRI is passed over",
    b"<14>1 2026-11-30t": "a time stamp with lower-case letters is a time (RFC 3339 allows it)",
    b"<14>1 2026-11-30T10:01:02+01": "a zone without a colon is a zone (ISO 8601)",
    b"<14>1  2026": "a second space separates as the first one",
    b"<14>2 2026": "a later version of the header is read as version 1",
    b"<13> 1 2026": "a space before the version is passed over",
    b"<134>1 1796029262": "Meraki's time stamp is in seconds since the epoch",
    b"<46>Nov 30 09:01:02 Two Words": "a word without a tag behind it is text; a wrong host hides its messages",
    b"<30>Nov 30 09:01:02 MikroTik": "likewise",
    b"<30>Nov 30 09:01:02 [2001:db8::1]": "an IPv6 address in brackets is a host",
    b"<13>Feb  5": "TAG ends with a colon or a bracket; `Use` is a word of the text",
    b"<13>Nov 30 09:01:02 192.0.2.1: link": "an address is a host, also with a colon behind it, never a program",
    b"<14>Nov 30 09:01:02.421 2026": "the year behind the time (Junos) is not a host",
    b"<14>Mon Nov 30": "a weekday before the time stamp is passed over",
    b"<14>Nov 30 10:01:02 CET": "the name of a zone behind the time is not a host",
    b"<14>Nov 30 10:01:02 +0100": "likewise",
    b"<14>Nov 30 2026 10:01:02 GMT+1": "likewise",
    b"<14>Nov 30 09:01:02 CST": "likewise",
    b"<30>2026:11:30-": "a date with colons is a date (Sophos)",
    b"2026/11/30": "a date with slashes is a date (nginx)",
    b"<5>Nov 30 09:01:02 myhost last": "`last message repeated` is syslogd's text, not a tag",
    b"<13>Nov 30 09:01:02 SV5-F5 notice": "F5 writes the severity before the tag",
    b"<14>Nov 30 09:01:02 PA-220": "`1,2026/11/30` is Palo Alto's text, not a tag",
    b"<13>Nov 30 09:01:02 http://": "a URL is not a tag",
    b"<13>Nov 30 09:01:02 pc1\t": "Snare separates by TAB",
    b"<13>pc1\t": "likewise",
    b"<180>": "Cisco IOS: number, origin and time stamp (needs rsyslog's pmciscoios)",
    b"<187>": "likewise, also behind a relay's header",
    b"<189>": "likewise, and FortiGate's own form",
    b"<166>Nov 30 2026 09:01:02 asa1 :": "Cisco ASA: the tag follows a space and a colon",
    b"<166>:Nov 30": "Cisco ASA's EMBLEM form",
}
"""The beginnings of messages, and why relay reads them in another way than both others."""


def parsed(peer: ParsingRsyslog | ParsingSyslogNg, messages: Sequence[bytes]) -> list[ParsedHeader]:
    with peer:
        with socket.create_connection((LOOPBACK, peer.port)) as program:
            program.sendall(b"".join(map(octet_counted, messages)))
        wait_until(lambda: len(peer.headers()) >= len(messages), 60, lambda: peer.log)
        return peer.headers()


def word(text: str) -> str:
    """The text; empty when it stands for none."""
    return "" if text in _UNREAD else text


def moment(header: ParsedHeader) -> str:
    """The time without its year, which depends on the day of the test; empty when it is that of receipt, or none."""
    try:
        found = datetime.fromisoformat(header.time).timestamp()
    except ValueError:
        return ""
    return "" if abs(found - time.time()) < _A_WHILE else within_a_year(int(found) * 1_000_000)


def within_a_year(microseconds: int | None) -> str:
    """Month, day and time."""
    if microseconds is None:
        return ""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).strftime("%m-%d %H:%M:%S")


def test_where_rsyslog_and_syslog_ng_agree_relay_agrees() -> None:
    messages = [vector.message for vector in EVERYTHING if vector.message]
    by_rsyslog = parsed(ParsingRsyslog("imtcp"), messages)
    by_syslog_ng = parsed(ParsingSyslogNg("syslog", parse=True), messages)
    now = int(time.time() * 1_000_000)
    agreed = different = 0
    unexplained = []
    for message, first, second in zip(messages, by_rsyslog, by_syslog_ng, strict=True):
        reading = read(message, now, UTC)
        pairs = [
            (word(first.host), word(second.host), (reading.host or b"").decode(errors="surrogateescape")),
            (word(first.app), word(second.app), (reading.app or b"").decode(errors="surrogateescape")),
            (moment(first), moment(second), within_a_year(reading.time)),
        ]
        agreements = [(one, own) for one, other, own in pairs if one == other]
        agreed += len(agreements)
        if any(theirs != own for theirs, own in agreements):
            different += 1
            if not message.startswith(tuple(DIFFERENCES)):
                unexplained.append((message, agreements))
    assert unexplained == []
    assert agreed > 180
    assert different < 50
