"""Many syslog senders in one process, for scripts/receiving: each is an originator with a connection of its own.

    python -m scripts.yardstick.senders PORT ORIGINATORS RATE SECONDS      # each sends RATE messages a second

A message is RFC 5424, octet-counted, with a number that rises by one in each originator. At the end every connection
is half-closed, and its sender waits for the receiver's close, which says that everything is durable. It prints the
number of messages of each originator, and how many connections did not end with such a close.
"""

import asyncio
import resource
import sys
from typing import Final

BATCH_SECONDS: Final = 0.1
"""Between two writes of one sender; shorter pauses would measure this process."""
_CLOSING: Final = 120.0
_AT_ONCE: Final = 50
"""Connections that are opened at the same time."""


def message(originator: str, number: int) -> bytes:
    """One framed message of 200 to 210 octets."""
    text = f"<134>1 2026-11-30T10:00:00.{number % 1000:03}Z {originator} app 77 - - number={number} ".ljust(200, "x")
    return f"{len(text)} {text}".encode()


class Sender:
    """One originator."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.sent = 0
        self.accepted = False
        self._port = port

    async def connect(self, limit: asyncio.Semaphore) -> None:
        """Open the connection."""
        async with limit:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def send(self, rate: float, seconds: float) -> None:
        """Send at the rate, then half-close and wait for the receiver's close."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        total = round(rate * seconds)
        while self.sent < total:
            due = min(total, round((loop.time() - begun) * rate) + 1)
            self._writer.write(b"".join(message(self.name, number) for number in range(self.sent, due)))
            self.sent = max(self.sent, due)
            await self._writer.drain()
            await asyncio.sleep(BATCH_SECONDS)
        self._writer.write_eof()
        try:
            async with asyncio.timeout(_CLOSING):
                self.accepted = await self._reader.read() == b""
        except (OSError, TimeoutError):
            self.accepted = False
        self._writer.close()


async def _main(port: int, originators: int, rate: float, seconds: float) -> None:
    senders = [Sender(f"originator-{number}", port) for number in range(originators)]
    limit = asyncio.Semaphore(_AT_ONCE)
    await asyncio.gather(*(sender.connect(limit) for sender in senders))
    await asyncio.gather(*(sender.send(rate, seconds) for sender in senders))
    print(sum(sender.sent for sender in senders), sum(not sender.accepted for sender in senders))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
