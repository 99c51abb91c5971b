"""TLS in memory, without a network: a peer whose octets are damaged or cut off on their way, at random."""

import contextlib
import ssl
from random import Random
from typing import Final

from harness.fuzz import harmed

_CUT: Final = 0.2  # of the damaged ones


class HarmedPeer:
    """One end of TLS. Its input and its output are damaged with the probability `harm`."""

    def __init__(self, tls: ssl.SSLContext, random: Random, harm: float, *, server_name: str | None = None) -> None:
        """With a `server_name` it is the client. After the handshake it sends `to_say`, and ends."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = server_name is not None
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_side=not client, server_hostname=server_name)
        self._random = random
        self._harm = harm
        self._agreed = False
        self.to_say: bytes | None = None
        self.heard = b""
        self.heard_all = False
        """What arrived before the peer's close_notify, which it has answered then."""
        self.ended = False
        """Neither its octets nor the peer's arrive any more."""
        self._says = b""

    def take(self, data: bytes) -> None:
        """Feed octets of the peer."""
        if not self.ended:
            self._incoming.write(self._on_its_way(data))
            self.work()

    def give(self, most: int) -> bytes:
        """Return at most that many of its octets."""
        given, self._says = self._says[:most], self._says[most:]
        return given

    def work(self) -> None:
        """Continue with the octets that were fed."""
        try:
            self._shake_hands()
            while data := self._tls.read(65536):
                self.heard += data
            self._end(heard_all=True)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._end(heard_all=True)
        except ssl.SSLError:
            self._end(heard_all=False)
        self._says += self._on_its_way(self._outgoing.read())

    def _shake_hands(self) -> None:
        if self._agreed:
            return
        self._tls.do_handshake()
        self._agreed = True
        if self.to_say is not None:
            if self.to_say:
                self._tls.write(self.to_say)
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()

    def _end(self, *, heard_all: bool) -> None:
        self.heard_all = heard_all
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self.ended = True

    def _on_its_way(self, data: bytes) -> bytes:
        if not data or self._random.random() >= self._harm:
            return data
        if self._random.random() < _CUT:
            self.ended = True
            return data[: self._random.randrange(len(data))]
        return harmed(self._random, data)
