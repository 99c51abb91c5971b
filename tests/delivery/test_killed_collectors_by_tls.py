"""Collectors that speak TLS, killed at random moments: messages proven by a drained stream are there afterwards.

RELAY_KILL_ROUNDS=50 in the environment is the long form (with `--timeout 0`).
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Final, Self

import pytest
from delivery.blocks import block
from harness.certificates import SERVER, Authority, Shown
from harness.ports import LOOPBACK
from harness.rsyslog import Rsyslog
from harness.syslog_ng import SyslogNg
from harness.waiting import wait_until

from relay.delivery.message_selection import EVERYTHING
from relay.delivery.sessions.drained_stream import DrainedStream, DrainTimeouts
from relay.delivery.sessions.syslog_encoder import SyslogEncoder
from relay.errors import RelayError
from relay.spool.cursor import Cursor
from relay.transport.tcp import TcpTransport
from relay.transport.tls.client import TlsClient, tls_client
from relay.transport.tls.transport import TlsPeer, TlsTransport
from relay.values.configuration.settings import RemoteLoggingServer

ROUNDS: Final = int(os.environ.get("RELAY_KILL_ROUNDS", "3"))
LONGEST_LIFE: Final = 0.3  # seconds from a proof on
AT_ONCE: Final = 10_000


class CarefulRsyslog(Rsyslog):
    """It writes each message before it reads on, so a kill loses nothing that it has read."""

    def _configuration(self) -> str:
        return 'main_queue(queue.type="Direct")\n' + super()._configuration()


def message(number: int) -> bytes:
    return b"<13>1 - - - - - - %d " % number + b"x" * (number * 97 % 200)


def number_of(kept: bytes) -> int:
    return int(kept.split(b" ", 8)[7])


class Stream:
    """Sends numbered messages for ever; begins again at the first unproven one when the collector is lost."""

    def __init__(self, port: int, client: TlsClient) -> None:
        self._port = port
        self._client = client
        self._peer = TlsPeer("collector")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.proven = 0
        """Every message below this number is proven."""
        self.losses = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for_a_proof(self) -> None:
        """Return when more is proven than before."""
        before = self.proven
        wait_until(lambda: self.proven > before, 60, "a proof")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._deliver()
            except RelayError:
                self.losses += 1
                self._stop.wait(0.01)

    def _deliver(self) -> None:
        inner = TcpTransport(LOOPBACK, self._port, self._stop)
        with closing(TlsTransport(inner, self._client, self._peer, self._stop)) as transport:
            messages = SyslogEncoder(EVERYTHING, 8192)
            session = DrainedStream(transport, transport.open(), messages, timeouts=DrainTimeouts(drain=5.0))
            for first in self._from_the_first_unproven():
                session.send(block([message(each) for each in range(first, first + AT_ONCE)]))
                reached = Cursor(retained=first + AT_ONCE)
                while session.prove(reached) is None:  # it settles before more is sent: nothing else finds a loss out
                    self._stop.wait(0.005)
                self.proven = first + AT_ONCE

    def _from_the_first_unproven(self) -> Iterator[int]:
        for first in count(self.proven, AT_ONCE):
            if self._stop.is_set():
                return
            yield first


@pytest.mark.parametrize("name", ["rsyslog by ossl", "rsyslog by gtls", "syslog-ng"])
def test_proven_messages_are_there_after_the_kill(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair(SERVER, LOOPBACK)
    keys = {"ca": authority.certificate, "certificate": pair.certificate, "private-key": pair.key}
    own = {"transport": "tls", "address": LOOPBACK, **{key: str(path) for key, path in keys.items()}}
    client = tls_client(RemoteLoggingServer.model_validate(own))
    chance = random.Random(name)
    with collector(name, Shown(pair, authority.certificate)) as peer:
        with Stream(peer.port, client) as stream:
            for _ in range(ROUNDS):
                stream.wait_for_a_proof()
                time.sleep(chance.uniform(0, LONGEST_LIFE))  # no wait for anything: a moment by chance
                chance.choice((peer.kill, peer.stop))()
                peer.start()
            wait_until(lambda: stream.losses >= ROUNDS, 60, "the last loss is noticed")
        kept = {number_of(each) for each in peer.messages()}
    assert sorted(set(range(stream.proven)) - kept) == []
    assert stream.proven > AT_ONCE
    assert stream.losses >= ROUNDS


def collector(name: str, shown: Shown) -> Rsyslog | SyslogNg:
    if name == "syslog-ng":
        return SyslogNg("syslog", tls=shown)
    return CarefulRsyslog("imtcp", tls=shown._replace(driver="gtls" if "gtls" in name else "ossl"))
