"""Messages that are taken together are stored to the octet as those that are taken one by one."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from archive.messages import DAY_US, NOON_US, foreign, limits, own

from relay.archive.filing.bound_names import NameBinding
from relay.archive.filing.filing_policy import FilingPolicy, FilingTerms
from relay.archive.writer import archive_writer, open_days
from relay.archive.writer.archive_writer import ArchiveWriter, WriterLimits
from relay.archive.writer.extent_draft import MAX_OCTETS
from relay.values.provenance import Provenance, ReceiptMark

SENDERS = (
    None,
    Provenance("192.0.2.7", "", "tcp://0.0.0.0:514"),
    Provenance("192.0.2.8", "SHA256:x", "tcp://0:1", "relp"),
)
Received = tuple[list[bytes], int, Provenance | None, ReceiptMark]
POLICY = FilingTerms(bindings=(NameBinding(names=("bound",), listeners=frozenset(("tcp://0:1",))),), most_originators=3)


def run_of(first: int, count: int, **how: str) -> list[bytes]:
    return [own(number, **how) for number in range(first, first + count)]


def at(message: bytes, time: str) -> bytes:
    return message.replace(b"2024-03-06T16:34:22.347", time.encode())


def write(
    folder: Path, received: Sequence[Received], monkeypatch: pytest.MonkeyPatch, limits: WriterLimits, smallest: int
) -> tuple[dict[str, bytes], object]:
    """Everything that the writer leaves; messages are taken together from `smallest` on."""
    monkeypatch.setattr(archive_writer, "_SMALLEST_BATCH", smallest)
    monkeypatch.setattr(open_days, "wall_clock", lambda: NOON_US)
    with ArchiveWriter(str(folder), "spool", policy=FilingPolicy(POLICY), limits=limits) as writer:
        for number, (messages, time, sender, marks) in enumerate(received):
            writer.write_all(messages, time, sender, marks)
            if number % 4 == 3:
                writer.commit(b"%d" % number)
        writer.commit(b"end")
        counters = repr(writer.counters)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.name != "lock" and path.is_file()
    }, counters


def same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, received: Sequence[Received], how: WriterLimits) -> None:
    together = write(tmp_path / "together", received, monkeypatch, how, 1)
    singly = write(tmp_path / "singly", received, monkeypatch, how, 1 << 30)
    assert together[1] == singly[1]
    assert together[0].keys() == singly[0].keys()
    for path, octets in singly[0].items():
        assert together[0][path] == octets, path
    assert len(together[0]) > 2


def test_usual_messages_are_taken_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ArchiveWriter, "_take_singly", None)
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        assert writer.write_all([*run_of(1, 100), *run_of(1, 28, kind="admin")], NOON_US, SENDERS[1]) == 128


@pytest.mark.parametrize("seed", range(12))
def test_any_mixture_is_stored_equally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    random = Random(seed)

    def messages() -> list[bytes]:
        first = random.randrange(60)
        host = random.choice(("router1", "router1", "router1", "bound", "-", "r2", "r3", "r4", "r5"))
        found = run_of(first, random.randrange(1, 40), host=host, kind=random.choice(("audit", "admin")))
        for _ in range(random.choice((0, 0, 1, 3))):
            other = random.choice(
                (
                    own(random.randrange(60), part="1/2"),
                    own(random.randrange(60), part="2/2"),
                    own(random.randrange(60), host=host, text="another text"),
                    own(random.randrange(60), host=host, kind="system", run="60"),
                    own(2**63 + random.randrange(3), host=host),
                    at(
                        own(random.randrange(60), host=host),
                        random.choice(("1993-01-01T00:00:00", "2024-03-07T16:00:00")),
                    ),
                    foreign(7, host=host),
                    b"no form #043 at all\n\0",
                )
            )
            found.insert(random.randrange(len(found) + 1), other)
        return found

    received = [
        (
            messages(),
            NOON_US + number * random.choice((1, DAY_US // 8)),
            random.choice(SENDERS),
            random.choice((ReceiptMark(0),) * 5 + (ReceiptMark.CUT, ReceiptMark.FORWARDED)),
        )
        for number in range(40)
    ]
    same(tmp_path, monkeypatch, received, limits(max_pending=random.choice((2_000, 16 << 20))))


def test_extents_end_at_the_same_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = [own(number, text="x" * (MAX_OCTETS // 200)) for number in range(450)]
    times = [at(own(1000 + day), f"2024-03-{day:02}T00:00:00") for day in range(1, 29)]
    by_run = [own(1, run=f"{number:x}") for number in range(1100)]
    far = [at(own(5000), "1993-01-01T00:00:00")]
    received: list[Received] = [
        (each, NOON_US, SENDERS[1], ReceiptMark(0)) for each in (large, times, by_run, far, run_of(5001, 20))
    ]
    same(tmp_path, monkeypatch, received, limits())
