"""Makes a large archive without a receiver: `make(folder)` is deterministic, so that measurements can be compared.

Days follow each other from `FIRST_DAY`; the last one is open. Messages are what routers and Linux hosts send: relay's
numbered audit events (two of them relay's own heartbeats an hour), and RFC 3164 lines of other programs.
"""

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

from relay.archive import ledger
from relay.archive.layout import begin_of, stem_of
from relay.archive.ledger import Closing, Extent, Heading
from relay.archive.log_line import escape
from relay.syslog.rfc5424 import format_timestamp

SECOND: Final = 1_000_000
A_DAY: Final = 86_400 * SECOND
DAYS: Final = ("2026-11-28", "2026-11-29", "2026-11-30")
RARE: Final = b"acct=mallory"
"""In ten messages of all."""

_FOREIGN: Final = 4
"""Of five originators the last is not a relay."""


class Size(NamedTuple):
    """How large the archive is."""

    messages: int = 1_000_000
    originators: int = 20
    extent: int = 20
    """Messages of one extent, which is one sender's part of one commit."""


def make(folder: Path, size: Size) -> None:
    """Write the archive's logs and ledgers; the marks of a foreign sender are there, too."""
    each = size.messages // size.originators // len(DAYS)
    rare = max(size.messages // 10, 1)
    count = 0
    for place in range(size.originators):
        name = f"edge{place:02}"
        (folder / name).mkdir(parents=True)
        previous, after, number = b"", None, 0
        for day in DAYS:
            lines = [ledger.encode(Heading(originator=name, log=f"{day}.log", after=after), previous)]
            octets = bytearray()
            step = A_DAY // (each // size.extent + 1)
            with (folder / name / f"{day}.log").open("wb") as log:
                for begun in range(0, each, size.extent):
                    at = begin_of(day) + begun // size.extent * step + place
                    messages = []
                    for _ in range(min(size.extent, each - begun)):
                        number += 1
                        count += 1
                        messages.append(_message(name, place, number, at, is_rare=count % rare == rare // 2))
                    block = b"".join(escape(message) + b"\n" for message in messages)
                    lines.append(
                        ledger.encode(
                            _extent(place, at, number, messages, (len(octets), len(block))), lines[-1], [block]
                        )
                    )
                    octets += block
                log.write(octets)
            if day != DAYS[-1]:
                span = (begin_of(day), begin_of(day) + A_DAY - 1)
                lines.append(
                    ledger.encode(Closing(closed=begin_of(day) + A_DAY, len=len(octets), n=each, time=span), lines[-1])
                )
            (folder / name / f"{stem_of(day, 1)}.ledger").write_bytes(b"".join(lines))
            previous, after = lines[-1], f"{day}.ledger"


def _message(name: str, place: int, number: int, at: int, *, is_rare: bool) -> bytes:
    time = format_timestamp(at + number % 1000 * 1000).decode()
    account = RARE.decode() if is_rare else f"acct=user{number % 89}"
    if place % 5 == _FOREIGN:
        sender = f"10.0.{number % 250}.{place} port {number % 60000}"
        text = f"sshd[{1000 + number % 9000}]: Accepted publickey {account} from {sender}"
        return f"<38>{_bsd(time)} {name} {text}".encode()
    return (
        f"<109>1 {time} {name} auditd {number % 9000} SYSCALL "
        f'[128T relayRun="{_run(place)}" relaySeq="{number}" type="audit" router="{name}" node="node0" syscall="59" '
        'success="yes" exe="/usr/bin/sudo" key="exec"] '
        f"type=SYSCALL msg=audit({at // SECOND}.{number % 1000:03}:{number}): arch=c000003e syscall=59 success=yes "
        f"exit=0 ppid={number % 30000} pid={number % 31000} auid=1000 uid=0 {account} "
        'comm="sudo" exe="/usr/bin/sudo"'
    ).encode()


def _run(place: int) -> str:
    return f"0f3c8a1be2d9{place:04x}"


def _bsd(time: str) -> str:
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return f"{months[int(time[5:7]) - 1]} {int(time[8:10]):2} {time[11:19]}"


def _extent(place: int, at: int, number: int, messages: list[bytes], location: tuple[int, int]) -> Extent:
    count = len(messages)
    foreign = place % 5 == _FOREIGN
    run = _run(place)
    return Extent(
        at=(at, at + SECOND // 2),
        sender=f"192.0.2.{place + 1}",
        identity=None if foreign else "SHA256:" + hashlib.sha256(run.encode()).hexdigest()[:43],
        via="udp://0.0.0.0:514 syslog" if foreign else "ssh://0.0.0.0:2222 syslog",
        off=location[0],
        len=location[1],
        n=count,
        time=(at, at + SECOND),
        id=() if foreign else ((run, "audit", number - count + 1, number),),
        marks={f"0-{count - 1}" if count > 1 else "0": ("inferred",)} if foreign else {},
    )
