"""A stream behind a load balancer: the PROXY header before it names the real sender (`relay.syslog.proxy_header`).

Only peers in `[receiver] proxies` are believed, and each of their streams must begin with a header. A stream that ends
before its first octet is a health check. Any other peer's octets are not parsed: it could claim any address.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from relay.errors import UnavailableError
from relay.listener.stream import ByteStream
from relay.syslog.proxy_header import ProxyHeader, ProxyHeaderError, read_header
from relay.values.address import Address

HEADER_TIMEOUT: Final = 15.0
"""Seconds from the connection to the whole header."""

Admit = Callable[[str], bool]
"""Whether one more connection from that address is served; it counts for the address then."""


class ProxiedStream(ByteStream):
    """Another stream without its header; its sender is known from the first read on."""

    def __init__(self, inner: ByteStream, admit: Admit, header_timeout: float = HEADER_TIMEOUT) -> None:
        self._inner = inner
        self._admit = admit
        self._header_timeout = header_timeout
        self._header: ProxyHeader | None = None

    @property
    def _sender(self) -> Address | None:
        return None if self._header is None else self._header.sender

    @property
    @override
    def peer(self) -> str:
        if self._sender is None:
            return self._inner.peer
        return f"tcp://{self._sender} (through the proxy {self._inner.peer.removeprefix('tcp://')})"

    @property
    @override
    def address(self) -> str:
        return self._inner.address if self._sender is None else self._sender.host

    @property
    @override
    def half_closed(self) -> bool:
        return self._inner.half_closed

    @property
    @override
    def has_completed(self) -> bool:
        return self._inner.has_completed

    @override
    def completed(self) -> None:
        self._inner.completed()

    @override
    async def read(self) -> bytes:
        if self._header is not None:
            return await self._inner.read()
        try:
            async with asyncio.timeout(self._header_timeout):
                rest = await self._read_header()
        except TimeoutError:
            raise ProxyHeaderError(b"", f"no PROXY header came within {self._header_timeout:g} s") from None
        return rest or await self._inner.read()

    async def _read_header(self) -> bytes:
        begun = b""
        while (header := read_header(begun) if begun else None) is None:
            data = await self._inner.read()
            if not data and not begun:
                self._header = ProxyHeader(0, None)
                return b""
            if not data:
                raise ProxyHeaderError(begun, "it ended inside its PROXY header")
            begun += data
        self._header = header
        if header.sender is not None and not self._admit(header.sender.host):
            raise UnavailableError("connection", "its sender has too many connections")
        return begun[header.length :]

    @override
    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    @override
    async def close(self) -> None:
        await self._inner.close()

    @override
    def abort(self) -> None:
        self._inner.abort()
