"""Many messages read at once say what each of them says by itself, or they are left to be read singly."""

from random import Random

import pytest
from harness.fuzz import fuzzed

from relay.syslog.lenient import own_batch
from relay.syslog.lenient.own_batch import NumberRange, OwnBatch
from relay.syslog.lenient.reader import glance
from relay.syslog.lenient.reading import NOTHING_MARKED


def message(
    number: int, *, kind: str = "audit", clock: str = "09:01:02.5", params: str = ' a="1" b=""', **other: str
) -> bytes:
    pri, zone, host, run = (
        other.get(key, value) for key, value in (("pri", "109"), ("zone", "Z"), ("host", "r1"), ("run", "5f"))
    )
    head = f"<{pri}>1 2026-11-30T{clock}{zone} {host} relay - ID [128T"
    return f'{head} relayRun="{run}" relaySeq="{number}" type="{kind}"{params}] text'.encode()


def test_consecutive_messages_are_read_at_once() -> None:
    (found,) = own_batch.read(
        [
            message(7, clock="09:01:02.5", params=r' a="\"x\" [\]\\ "'),
            message(8, clock="09:01:02", pri="13"),
            message(1, kind="admin", run="60"),
            message(9, clock="23:59:59.123456", params="")[: -len(" text")],
        ]
    )
    noon = 1_796_029_262_000_000
    assert found == OwnBatch(
        4, b"r1", noon, noon + 53_937_123_456, (NumberRange(b"5f", b"audit", 7, 9), NumberRange(b"60", b"admin", 1, 1))
    )


@pytest.mark.parametrize(
    "second",
    [
        message(9), message(7), message(8, host="r2"), message(8, host="-"), message(8, clock="24:00:00"),
        message(8, pri="192"), message(8, pri="07"), message(8, zone="+01:00"), message(8, params=' a="]"'),
        message(8, params=' a="ü"'), message(8, params=' a="\\'), message(8, params=' a b="1"'), message(8, host="\n"),
        message(8, params='][a@1 x="1"'), message(8, params=f' {"n" * 33}="1"'), message(8, host="h" * 256),
        message(8).replace(b" type=", b' relayPart="1/2" type='), message(8).replace(b"-30T", b"-31T"), b"", b"<1>text",
    ],
)  # fmt: skip
def test_what_is_different_is_left_to_be_read_singly(second: bytes) -> None:
    alone = [*own_batch.read([message(7)])], [*own_batch.read([second])]
    assert [*own_batch.read([message(7), second])] in ([], alone[0], [*alone[0], *alone[1]])
    assert all(batch.messages == 1 for batch in own_batch.read([second, message(7)]))


def one(random: Random) -> bytes:
    return message(
        random.choice((7, 8)),
        clock=random.choice(("09:01:02", "00:00:00.000001", "23:59:59.9")),
        params=random.choice(("", ' a="1"', r' a="\]" b="\""', r' a="\\" c="x\"y"')),
    )


def test_damaged_messages_are_read_as_each_by_itself() -> None:
    accepted = 0
    for random, damaged in fuzzed(13, one):
        both = [message(8), damaged] if random.random() < 0.3 else [damaged]
        found = next(own_batch.read(both), None)
        if found is None:
            continue
        accepted += found.messages
        assert own_batch.is_own(both[0])
        both = both[: found.messages]
        glances = [glance(each, 0) for each in both]
        assert {(each.host, each.marks) for each in glances} == {(found.host, NOTHING_MARKED)}
        times = [each.time for each in glances if each.time is not None]
        assert (min(times), max(times), len(times)) == (found.earliest, found.latest, len(both))
        numbers = [(run, kind, number) for run, kind, first, last in found.ranges for number in range(first, last + 1)]
        identities = [each.identity for each in glances if each.identity is not None]
        assert sorted(numbers) == sorted((each.run, each.type, each.sequence) for each in identities)
        assert {(each.part, each.parts) for each in identities} == {(1, 1)}
        assert len(identities) == len(both)
    assert accepted > 500
