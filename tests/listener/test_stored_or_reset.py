"""What a real receiver accepts is stored: whatever form a frame has, it is in the archive, or the stream is reset.

All senders send to one `relay receive` at the same time. A message is found by the word that only its case has.
"""

import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NamedTuple

import pytest
from archive.plain_reader import PlainLine, read_archive
from harness.ports import LOOPBACK, free_port
from harness.receiver import Receiver
from harness.waiting import wait_until

from relay.syslog.framing import octet_counted
from relay.syslog.relp import RelpClient

LIMIT: Final = 2048
OPEN: Final = RelpClient().open()
AUDITD_ACK: Final = struct.pack("<IBBIH", 0xFF0000FE, 0, 0, 0x40000000, 0)
RECEIPT_MARKS: Final = {"cut", "unterminated"}
CLOSED, RESET = "closed", "reset"


class Sent(NamedTuple):
    """What a sender sends, and what becomes of it."""

    octets: bytes
    """`WORD` is replaced by a word of the case, which has the same length."""
    stored: tuple[tuple[bytes, tuple[str, ...]], ...]
    """The messages in the archive that have the word, and their marks."""
    end: str = CLOSED
    answers: int = 0
    """Messages that are answered."""


def line(text: bytes = b"") -> bytes:
    """A message with the word."""
    return b"<13>1 - host app - - - WORD" + text


def cut(message: bytes) -> bytes:
    """As much of it as is kept."""
    return message[:LIMIT]


def relp(*messages: bytes) -> bytes:
    """A session with these messages."""
    frames = (b"%d syslog %d %b\n" % (index + 2, len(each), each) for index, each in enumerate(messages))
    return OPEN + b"".join(frames)


def auditd(*records: bytes, length: int | None = None) -> bytes:
    """A session with these records; `length` is what the last header says."""
    lengths = [len(record) for record in records[:-1]] + [len(records[-1]) if length is None else length]
    return b"".join(
        struct.pack("<IBBIHI", 0xFF0000FE, 0, 0, 0, size, index + 1) + record
        for index, (size, record) in enumerate(zip(lengths, records, strict=True))
    )


def record(text: bytes = b"") -> bytes:
    """A record of auditd with the word."""
    return b"node=host type=LOGIN msg=audit(1.000:1): pid=1 WORD" + text


LONG: Final = line(b" " + b"x" * 5000)
GOOD: Final = line(b" good")
LINES: Final = {
    "oversized": Sent(LONG + b"\n", ((cut(LONG), ("cut",)),)),
    "counted wrong": Sent(b"99999 " + GOOD + b"\n7\n", ((GOOD + b"\n7\n", ("cut", "unterminated")),), RESET),
    "counted wrong after a line": Sent(GOOD + b"\n99 " + GOOD + b"\n", ((GOOD, ()),), RESET),
    "half a line at the end": Sent(GOOD, ((GOOD, ("unterminated",)),)),
    "an oversized half at the end": Sent(LONG, ((cut(LONG), ("cut", "unterminated")),)),
    "NUL": Sent(b"<13>1 - host app - - - first\n" + line(b"\0x") + b"\n", ((line(b"\0x"), ()),)),
    "NUL in the first line": Sent(line(b"\0") + line(b" 2\n"), ((line(), ()), (line(b" 2"), ()))),
    "empty": Sent(b"\n\r\n\0\n", ()),
    "length 0": Sent(b"0 " + GOOD + b"\n", ((b"0 " + GOOD, ()),)),
    "huge length": Sent(b"9999999999 WORD\n", ((b"9999999999 WORD", ()),)),
    "garbage after a frame": Sent(GOOD + b"\n" + b"\xff\xfe WORD", ((GOOD, ()), (b"\xff\xfe WORD", ("unterminated",)))),
}
COUNTED: Final = {
    "oversized": Sent(octet_counted(LONG) + octet_counted(GOOD), ((cut(LONG), ("cut",)), (GOOD, ()))),
    "counted too small": Sent(
        b"%d " % (len(GOOD) - 5) + GOOD + b" WORD", ((line(), ()), (b" good WORD", ("unterminated",)))
    ),
    "counted too large": Sent(octet_counted(GOOD) + b"%d " % (len(GOOD) + 5) + GOOD, ((GOOD, ()),), RESET),
    "half a frame at the end": Sent(octet_counted(GOOD) + octet_counted(GOOD)[:-4], ((GOOD, ()),), RESET),
    "half an oversized frame at the end": Sent(
        octet_counted(LONG)[:-4], ((cut(LONG), ("cut", "unterminated")),), RESET
    ),
    "half a length at the end": Sent(octet_counted(GOOD) + b"12", ((GOOD, ()),), RESET),
    "NUL": Sent(octet_counted(line(b"\0x")), ((line(b"\0x"), ()),)),
    "empty": Sent(octet_counted(GOOD) + b"\n\n", ((GOOD, ()),)),
    "length 0": Sent(octet_counted(GOOD) + b"0 " + octet_counted(GOOD), ((GOOD, ()),), RESET),
    "huge length": Sent(octet_counted(GOOD) + b"9999999999 " + GOOD, ((GOOD, ()),), RESET),
    "largest length": Sent(
        octet_counted(GOOD) + b"999999999 " + LONG, ((GOOD, ()), (cut(LONG), ("cut", "unterminated"))), RESET
    ),
    "garbage after a frame": Sent(
        octet_counted(GOOD) + b"\xff\xfe WORD", ((GOOD, ()), (b"\xff\xfe WORD", ("unterminated",)))
    ),
}
RELP: Final = {
    "oversized": Sent(relp(LONG, GOOD), ((cut(LONG), ("cut",)), (GOOD, ())), answers=2),
    "counted too small": Sent(relp(GOOD) + b"3 syslog 5 " + GOOD + b"\n", ((GOOD, ()),), RESET, answers=1),
    "counted too large": Sent(relp(GOOD) + b"3 syslog 999 " + GOOD + b"\n", ((GOOD, ()),), RESET, answers=1),
    "half a frame at the end": Sent(relp(GOOD, GOOD)[:-4], ((GOOD, ()),), RESET, answers=1),
    "half an oversized frame at the end": Sent(relp(GOOD, LONG)[:-4], ((GOOD, ()),), RESET, answers=1),
    "NUL": Sent(relp(line(b"\0x")), ((line(b"\0x"), ()),), answers=1),
    "empty": Sent(relp(GOOD) + b"3 syslog 0\n", ((GOOD, ()),), answers=2),
    "length 0": Sent(relp(GOOD) + b"3 syslog 0 " + GOOD + b"\n", ((GOOD, ()),), RESET, answers=1),
    "huge length": Sent(relp(GOOD) + b"3 syslog 9999999999 " + GOOD, ((GOOD, ()),), RESET, answers=1),
    "garbage after a frame": Sent(relp(GOOD) + b"\xff\xfe WORD\n", ((GOOD, ()),), RESET, answers=1),
}
RECORD: Final = record()
LONG_RECORD: Final = record(b"x" * 5000)
AUDITD: Final = {
    "oversized": Sent(auditd(LONG_RECORD), ((cut(LONG_RECORD), ("cut",)),), answers=1),
    "counted too small": Sent(
        auditd(RECORD, record(b" rest of it"), length=len(RECORD)), ((RECORD, ()), (RECORD, ())), RESET, answers=2
    ),
    "counted too large": Sent(auditd(RECORD, RECORD, length=999), ((RECORD, ()),), RESET, answers=1),
    "half a frame at the end": Sent(auditd(RECORD, RECORD)[:-4], ((RECORD, ()),), RESET, answers=1),
    "NUL": Sent(auditd(record(b"\0x")), ((record(b"\0x"), ()),), answers=1),
    "empty": Sent(auditd(RECORD, b""), ((RECORD, ()),), answers=2),
    "huge length": Sent(auditd(RECORD, RECORD, length=65535), ((RECORD, ()),), RESET, answers=1),
    "garbage after a frame": Sent(auditd(RECORD) + b"\xff\xfe WORD" * 9, ((RECORD, ()),), RESET, answers=1),
}
DATAGRAMS: Final = {
    "oversized": Sent(LONG, ((cut(LONG), ("cut",)),)),
    "counted wrong": Sent(b"99 " + GOOD, ((b"99 " + GOOD, ()),)),
    "NUL": Sent(line(b"\0x"), ((line(b"\0x"), ()),)),
    "empty": Sent(b"", ()),
    "only its end": Sent(b"\n\0", ()),
    "length 0": Sent(b"0 " + GOOD, ((b"0 " + GOOD, ()),)),
    "huge length": Sent(b"9999999999 " + GOOD, ((b"9999999999 " + GOOD, ()),)),
    "several lines": Sent(GOOD + b"\n" + GOOD + b"\n", ((GOOD + b"\n" + GOOD, ()),)),
}
PROTOCOLS: Final = {
    "tcp lines": LINES,
    "tcp octet counting": COUNTED,
    "tcp relp": RELP,
    "tcp auditd": AUDITD,
    "unix lines": LINES,
    "unix octet counting": COUNTED,
    "udp": DATAGRAMS,
    "unix-datagram": DATAGRAMS,
}
CASES: Final = [(protocol, name) for protocol, sent in PROTOCOLS.items() for name in sent]


def word_of(protocol: str, name: str) -> bytes:
    """The word of a case, as long as WORD."""
    return b"%04d" % (7000 + CASES.index((protocol, name)))


class Seen(NamedTuple):
    """What became of everything."""

    lines: list[PlainLine]
    ends: dict[tuple[str, str], tuple[str, bytes]]
    """How a stream ended, and what was answered."""


def send(open_: Callable[[], socket.socket], octets: bytes) -> tuple[str, bytes]:
    """Send, half-close, and read to the end."""
    answers = b""
    with open_() as connection:
        connection.settimeout(60)
        if connection.type == socket.SOCK_DGRAM:
            connection.send(octets)
            return CLOSED, b""
        try:
            connection.sendall(octets)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(4096):
                answers += data
        except (ConnectionResetError, BrokenPipeError):
            return RESET, answers
    return CLOSED, answers


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("stored")
    port, stream, datagram = free_port(), folder / "stream", folder / "datagram"
    configuration = folder / "receiver.toml"
    configuration.write_text(f"[receiver]\nmax-message-size = {LIMIT}\n")
    listens = [f"udp://{LOOPBACK}:{port}", f"unix://{stream}", f"unix-datagram://{datagram}"]
    flags = [each for url in listens for each in ("--listen", url)]
    receiver = Receiver(folder / "server", "-c", str(configuration), *flags)

    def connected(family: int, kind: int, address: str | tuple[str, int]) -> socket.socket:
        made = socket.socket(family, kind)
        made.connect(address)
        return made

    opens: dict[str, Callable[[], socket.socket]] = {
        "tcp": lambda: connected(socket.AF_INET, socket.SOCK_STREAM, (LOOPBACK, receiver.port)),
        "udp": lambda: connected(socket.AF_INET, socket.SOCK_DGRAM, (LOOPBACK, port)),
        "unix": lambda: connected(socket.AF_UNIX, socket.SOCK_STREAM, str(stream)),
        "unix-datagram": lambda: connected(socket.AF_UNIX, socket.SOCK_DGRAM, str(datagram)),
    }
    with receiver.running() as process, ThreadPoolExecutor(8) as pool:
        wait_until(datagram.exists, 30, lambda: process.log)
        sending = {
            case: pool.submit(
                send,
                opens[case[0].partition(" ")[0]],
                PROTOCOLS[case[0]][case[1]].octets.replace(b"WORD", word_of(*case)),
            )
            for case in CASES
        }
        ends = {case: each.result() for case, each in sending.items()}
        stored = sum(len(sent.stored) for sents in PROTOCOLS.values() for sent in sents.values())
        with suppress(AssertionError):  # the cases name what is missing
            logs = receiver.archive.glob
            wait_until(
                lambda: sum(log.read_bytes().count(b"\n") for log in logs("[!.]*/*.log")) >= stored,
                30,
                "all is archived",
            )
    return Seen(read_archive(receiver.archive), ends)


@pytest.mark.parametrize(("protocol", "name"), CASES)
def test_what_is_accepted_is_stored_and_marked_or_the_stream_is_reset(seen: Seen, protocol: str, name: str) -> None:
    sent, word = PROTOCOLS[protocol][name], word_of(protocol, name)
    end, answers = seen.ends[protocol, name]
    found = [each for each in seen.lines if word in each.message]
    stored = [(message.replace(b"WORD", word), marks) for message, marks in sent.stored]
    assert len(found) == len(stored)
    for message, marks in stored:  # a record of auditd has a head in front of it
        kept = [each for each in found if each.message.endswith(message)]
        assert (message, marks) in [(message, tuple(sorted(RECEIPT_MARKS & set(each.marks)))) for each in kept]
    assert end == (CLOSED if protocol.startswith("unix") else sent.end)  # a Unix socket cannot be reset
    assert answers.count(b" rsp 6 200 OK\n") + answers.count(AUDITD_ACK) == sent.answers
