"""Seeded octets for the decoders: streams that are almost right, cut anywhere.

The tests give each decoder `DEFAULT` octets; with `RELAY_FUZZ_OCTETS=10000000` they give it that many.
"""

import os
from collections.abc import Callable, Iterator
from random import Random

DEFAULT = 1_000_000


def fuzzed(seed: int, make: Callable[[Random], bytes]) -> Iterator[tuple[Random, bytes]]:
    """Yield streams of `make`, most of them damaged in a few places, until there were enough octets."""
    left = int(os.environ.get("RELAY_FUZZ_OCTETS", DEFAULT))
    random = Random(seed)
    while left > 0:
        stream = make(random)
        for _ in range(random.choice((0, 1, 1, 2, 5))):
            stream = harmed(random, stream)
        left -= max(len(stream), 1)
        yield random, stream


def harmed(random: Random, stream: bytes) -> bytes:
    """Replace the octets in one place of a stream by fewer, more or equally many."""
    at = random.randrange(len(stream) + 1)
    other = random.choice((b"", b"\n", b" ", b"0", b"9", b"x", b"\0", b"\xff" * 4, random.randbytes(3), stream[:20]))
    return stream[:at] + other + stream[at + random.choice((0, 1, 1, 4, 40)) :]


def cut(random: Random, stream: bytes) -> list[bytes]:
    """Yield the stream in pieces, some of one octet, some long."""
    if random.random() < 0.1:
        return [stream[at : at + 1] for at in range(len(stream))]
    places = sorted(random.choices(range(len(stream) + 1), k=random.randrange(8)))
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
