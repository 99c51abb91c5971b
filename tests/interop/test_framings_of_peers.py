"""Streams of every form into rsyslog's imtcp, syslog-ng's network() and relay: what both keep, relay keeps.

Each message has a word of its own, by which it is found again. Where both peers have a word in the same message, relay
has exactly that message. Where relay differs on purpose, the reason is listed.
"""

import asyncio
import contextlib
import itertools
import re
import socket
from collections.abc import Iterable
from typing import Final

from harness.held_spool import PromptSpool
from harness.ports import LOOPBACK
from harness.rsyslog import Rsyslog
from harness.syslog_ng import SyslogNg
from harness.waiting import wait_until

from relay.listener.conversation import ALL
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.tcp import TcpListener

LIMIT: Final = 2048
BOM: Final = b"\xef\xbb\xbf"
_WORD: Final = re.compile(rb"word[0-9]{3}")
_numbers = itertools.count()


def word() -> bytes:
    return b"word%03d" % next(_numbers)


def counted(message: bytes, zeros: bytes = b"") -> bytes:
    return b"%b%d %b" % (zeros, len(message), message)


PRI: Final = b"<14>1 2026-11-30T10:00:00Z web1 app 77 - - "
HEADS: Final = (
    PRI,
    b"<14>Nov 30 10:00:00 web1 app: ",
    b"Nov 30 10:15:32 fw1 su[12345]: ",
    b"2026-11-30T10:02:54.464+01:00 192.0.2.94 CEF:0|",
    b"2026 Nov 30 10:15:31 fw1 app: ",
    b"1764500000 fw1 app: ",
    b"1764500000.123 fw1 app: ",
    b"%ASA-6-302013: ",
    b'{"level":"info","msg":"',
    b" " + PRI,
    b"\0" + PRI,
    BOM + PRI,
    b"\xe4\xf6\xfc ",
    b"-9 ",
    b"9\t",
    b"12x ",
    b"0 ",
    b"*Mar  1 00:00:01.003: %SYS-5-CONFIG_I: ",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 ",
    b"GET the door ",
    b"[1234.5] ",
    b"<>",
    b"<999>",
    b"<14",
)
BETWEEN: Final = (b"", b"\n", b"\n\n", b"\r\n", b"\n\0", b"\0\n")
ZEROS: Final = (b"", b"0", b"000", b"00000000")


def streams() -> list[bytes]:
    """The streams; each message has a word."""
    found = [b"".join(head + word() + b"\n" for _ in range(2)) for head in HEADS]
    found += [head + word() + b"\n" + PRI + word() for head in HEADS]  # the last one without its LF
    found += [PRI + word() + b"\n" + head + word() + b"\n" for head in HEADS]
    found += [b"".join(counted(head + word()) for _ in range(2)) for head in HEADS if not head.startswith(b"\0")]
    found += [counted(PRI + word()) + PRI + word() + b"\n" + counted(PRI + word())]
    found += [counted(PRI + word()) + b"Nov 30 " + word() + b"\n" + counted(PRI + word())]
    found += [counted(PRI + word(), zeros) + counted(PRI + word(), zeros) for zeros in ZEROS]
    found += [PRI + word() + b"\n" + counted(PRI + word(), zeros) + PRI + word() + b"\n" for zeros in ZEROS]
    found += [b"\n".join(PRI + word() + each for _ in range(3)) + b"\n" for each in BETWEEN]
    found += [each + PRI + word() + b"\n" for each in BETWEEN]
    found += [counted(PRI + word()) + b"\n" + counted(PRI + word() + b"\nline") + b"\n"]
    found += [counted(PRI + word()) + counted(PRI + word())[:-3]]
    found += [PRI + word() + b" " + b"x" * LIMIT + b" " + word() + b"\n" + PRI + word() + b"\n"]
    found += [counted(PRI + word() + b" " + b"x" * LIMIT + b" " + word()) + counted(PRI + word())]
    found += [b"4294967296 " + PRI + word() + b"\n" + PRI + word() + b"\n"]
    return found


def differs_on_purpose(streams: list[bytes]) -> set[bytes]:
    """The words that relay does not keep, all in the last three streams.

    The rest of a message over the limit is dropped and counted: both peers make further messages of it. A length of ten
    digits is a fault of the sender, and resets the connection: both peers make a line of it.
    """
    line, frame, bad_length = (_WORD.findall(stream) for stream in streams[-3:])
    return {line[1], frame[1], *bad_length}


def send(port: int, stream: bytes) -> None:
    """Send it, half-close, and wait until the peer has closed."""
    with socket.create_connection((LOOPBACK, port), timeout=60) as sender:
        sender.sendall(stream)
        sender.shutdown(socket.SHUT_WR)
        while sender.recv(4096):
            pass


def kept_by(peer: Rsyslog | SyslogNg, streams: Iterable[bytes]) -> dict[bytes, bytes]:
    """The peer's messages by their words."""
    for stream in streams:
        send(peer.port, stream)
    send(peer.port, b"<14>the end\n")
    wait_until(lambda: any(b"the end" in message for message in peer.messages()), 60, lambda: peer.log)
    return by_word(peer.messages())


def by_word(messages: Iterable[bytes]) -> dict[bytes, bytes]:
    return {found: message for message in messages for found in _WORD.findall(message)}


def kept_by_relay(streams: Iterable[bytes], *, bytewise: bool) -> dict[bytes, bytes]:
    async def scenario() -> list[bytes]:
        spool = PromptSpool()
        terms = StreamTerms(dialects=ALL, max_message_size=LIMIT)
        async with TcpListener(LOOPBACK, 0, spool.submit, terms=terms) as listener:
            for stream in streams:
                reader, writer = await asyncio.open_connection(*listener.address)
                for piece in [stream[at : at + 1] for at in range(len(stream))] if bytewise else [stream]:
                    writer.write(piece)
                writer.write_eof()
                with contextlib.suppress(ConnectionResetError):
                    await reader.read()
                writer.transport.abort()
        return spool.messages

    return by_word(asyncio.run(scenario()))


def test_what_both_keep_relay_keeps() -> None:
    sent = streams()
    with Rsyslog("imtcp", LIMIT) as rsyslog, SyslogNg("network", max_message_size=LIMIT) as syslog_ng:
        theirs = kept_by(rsyslog, sent), kept_by(syslog_ng, sent)
    ours = kept_by_relay(sent, bytewise=False)
    both = theirs[0].keys() & theirs[1].keys()
    everything = set(_WORD.findall(b"".join(sent)))
    assert len(both) > 0.8 * len(everything)
    assert both - ours.keys() == differs_on_purpose(sent) & both
    for each in sorted(both & ours.keys()):
        first, second = (kept[each].removesuffix(b"\r").replace(b"#000", b"\0") for kept in theirs)
        if first == second and len(first) < LIMIT:
            assert ours[each] == first
    assert kept_by_relay(sent, bytewise=True) == ours
    assert ours.keys() - (theirs[0].keys() | theirs[1].keys()) == set()
