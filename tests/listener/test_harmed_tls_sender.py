"""A man in the middle between a sender and the TLS listener: a changed stream ends, and is never accepted.

RELAY_FUZZ_SECONDS=60 in the environment is the long form (with `--timeout 0`).
"""

import asyncio
import os
import ssl
import time
from collections import Counter
from pathlib import Path
from random import Random

from harness.certificates import SERVER, Authority
from harness.harmed_tls import HarmedPeer

from relay.errors import RelayError, TemporaryError, UnavailableError
from relay.listener.stream import ByteStream
from relay.listener.tls import TlsStream, server_context
from relay.values.configuration.receiver_settings import ReceiverTls

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "1.5"))
LARGEST_READ = (1 << 18) + (1 << 14)
FEWEST = 100
"""How many streams are tried at least, however slow the machine is."""
READS = 5000
"""How often one stream may be read; more is an endless loop."""


class HarmedSender(ByteStream):
    """From a sender in memory."""

    peer = "sender"
    address = "192.0.2.7"

    def __init__(self, sender: HarmedPeer, random: Random) -> None:
        self._sender = sender
        self._random = random
        self._reads = 0
        self.closed = False
        sender.work()

    async def read(self) -> bytes:
        self._reads += 1
        assert self._reads < READS
        if data := self._sender.give(self._random.choice((1, 5, 1000, 65536, 300_000))):
            return data
        if not self._sender.ended:
            raise TemporaryError("sender", "it waits for what was cut out, and so would we")
        if self._random.random() < 0.3:
            raise UnavailableError("sender", "reset")
        return b""

    async def write(self, data: bytes) -> None:
        self._sender.take(data)

    async def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        raise NotImplementedError


async def outcome(context: ssl.SSLContext, trust: ssl.SSLContext, seed: int) -> str:
    random = Random(seed)
    harm = random.choice((0, 0.1, 0.3, 1))
    sender = HarmedPeer(trust, random, harm, server_name=SERVER)
    sender.to_say = random.randbytes(random.choice((0, 10, 50_000, 600_000)))
    beneath = HarmedSender(sender, random)
    stream, received = TlsStream(beneath, context), b""
    try:
        while data := await stream.read():
            assert len(data) <= LARGEST_READ
            received += data
        await stream.close()
    except RelayError as error:
        assert harm, seed
        assert sender.to_say.startswith(received), seed
        return type(error).__name__
    assert beneath.closed
    assert received == sender.to_say, seed
    return "accepted"


def test_a_stream_that_a_man_in_the_middle_changed_is_never_accepted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair(SERVER)
    keys = {"listen": "127.0.0.1:0", "certificate": str(pair.certificate), "private-key": str(pair.key)}
    context = server_context(ReceiverTls.model_validate(keys))
    seen: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    seed = 0
    while seed < FEWEST or time.monotonic() < end:
        trust = authority.client()
        trust.maximum_version = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)[seed % 2]
        seen[asyncio.run(outcome(context, trust, seed))] += 1
        seed += 1
    assert {"accepted", "ProtocolError", "UnavailableError"} <= set(seen)
