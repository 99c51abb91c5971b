"""A man in the middle changes octets and cuts streams off: relay ends such a stream without proof.

RELAY_FUZZ_SECONDS=60 in the environment is the long form (with `--timeout 0`).
"""

import os
import ssl
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

from harness.certificates import SERVER, Authority
from harness.harmed_tls import HarmedPeer

from relay.errors import RelayError, UnavailableError
from relay.transport.tls.client import TlsClient, tls_client
from relay.transport.tls.transport import TlsPeer, TlsTransport
from relay.values.configuration.settings import RemoteLoggingServer

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "1.5"))
TIMEOUT = 0.01
LOOKS = 5000
"""How often one pipe may be read; more is an endless loop."""


class HarmedPipe:
    """A relay.transport.Pipe to a server in memory."""

    local = False

    def __init__(self, server: HarmedPeer, random: Random) -> None:
        self.server = server
        self._random = random
        self._looks = 0

    @property
    def ended(self) -> bool:
        return self.server.ended

    def send(self, data: bytes) -> None:
        if self.server.ended:
            raise UnavailableError("server", "gone")
        self.server.take(data)

    def receive(self, timeout: float) -> bytes | None:
        self._looks += 1
        assert self._looks < LOOKS
        if data := self.server.give(self._random.choice((1, 5, 100, 65536))):
            return data
        if self.server.ended:
            return b""
        time.sleep(min(timeout, TIMEOUT))
        return None

    def half_close(self) -> None:
        self.server.ended = True

    def drained(self, timeout: float) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


class HarmedTransport:
    """A relay.transport.Transport to servers in memory, each behind the man in the middle."""

    alive = True

    def __init__(self, context: ssl.SSLContext, random: Random, harm: float) -> None:
        self._made = (context, random, harm)
        self.pipes: list[HarmedPipe] = []

    def open(self) -> HarmedPipe:
        self.pipes.append(HarmedPipe(HarmedPeer(*self._made), self._made[1]))
        return self.pipes[-1]

    def close(self) -> None:
        pass


def outcome(client: TlsClient, context: ssl.SSLContext, seed: int) -> str:
    random = Random(seed)
    transport = HarmedTransport(context, random, harm := random.choice((0, 0.1, 0.3, 1)))
    sent = [random.randbytes(random.randrange(30_000)) for _ in range(random.randrange(4))]
    far = TlsPeer("collector")
    far.answers = True  # as it has before; of one that never does, a cut proves what an end does
    try:
        pipe = TlsTransport(transport, client, far, threading.Event(), TIMEOUT if harm else 10).open()
        for data in sent:
            pipe.send(data)
        pipe.half_close()
        pipe.drained(TIMEOUT if harm else 10)
    except RelayError as error:
        assert harm, seed
        assert b"".join(sent).startswith(transport.pipes[0].server.heard), seed
        return type(error).__name__
    assert transport.pipes[0].server.heard_all, seed
    assert transport.pipes[0].server.heard == b"".join(sent), seed
    return "drained"


def test_a_stream_that_a_man_in_the_middle_changed_is_never_proven(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair(SERVER)
    client = tls_client(RemoteLoggingServer(transport="tls", ca=str(authority.certificate), server_name=SERVER))
    seen: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    seed = 0
    while time.monotonic() < end:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        context.maximum_version = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)[seed % 2]
        seen[outcome(client, context, seed)] += 1
        seed += 1
    assert {"drained", "ProtocolError", "UnavailableError"} <= set(seen)
