"""The HTTP listener: what it answers, and what garbage and slow clients do to it: nothing."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from harness.ports import free_port
from program.housekeeping.test_housekeeping import House

from relay.errors import UnavailableError
from relay.program.metrics import metrics_server
from relay.program.metrics.metrics_endpoint import MetricsEndpoint
from relay.program.metrics.metrics_server import LONGEST_REQUEST, MOST_CONNECTIONS
from relay.program.road import Road
from relay.values.address import Address
from relay.values.configuration.settings import MetricsSettings


async def ask(port: int, request: bytes, *, half_close: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if half_close:
        writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


async def get(port: int, path: str, more: str = "") -> bytes:
    return await ask(port, f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())


def serve(folder: Path, use: Callable[[int, MetricsEndpoint], Awaitable[None]]) -> None:
    """Serve the metrics of a road without sources and servers."""

    async def run() -> None:
        house, port = House(folder), free_port()
        with house.store:
            road = Road(house.store, house.intake, house.housekeeping, [])
            endpoint = MetricsEndpoint(road)
            await endpoint.follow(MetricsSettings(listen=Address("127.0.0.1", port)))
            try:
                await use(port, endpoint)
            finally:
                await endpoint.end()

    asyncio.run(run())


def test_it_answers_the_two_paths_and_refuses_everything_else(tmp_path: Path) -> None:
    async def use(port: int, _: MetricsEndpoint) -> None:
        answer = await get(port, "/metrics?x=1")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
        head, _blank, body = answer.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}\r\n".encode() in head
        assert b"\nrelay_build_info{" in body
        assert b"openmetrics-text" in await get(port, "/metrics", "accept: application/openmetrics-text\r\n")
        assert (await get(port, "/healthz")).endswith(b"\r\n\r\nok: nothing waits\n")
        assert (await ask(port, b"HEAD /healthz HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\n")
        assert (await get(port, "/")).startswith(b"HTTP/1.1 404 ")
        assert (await get(port, "/../../etc/passwd")).startswith(b"HTTP/1.1 404 ")
        post = await ask(port, b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello")
        assert post.startswith(b"HTTP/1.1 405 ")
        assert b"\r\nAllow: GET, HEAD\r\n" in post

    serve(tmp_path, use)


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"\0\xff\xfe\r\n\r\n",
        b"<13>1 - h a - - - a syslog message\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"GET /metrics HTTP/2.0\r\n\r\n",
        b"x" * (LONGEST_REQUEST * 4),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x7f" * 507,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_garbage_gets_an_error_and_the_next_request_its_answer(tmp_path: Path, request_: bytes) -> None:
    async def use(port: int, _: MetricsEndpoint) -> None:
        with contextlib.suppress(ConnectionResetError):
            assert (await ask(port, request_, half_close=True)).startswith(b"HTTP/1.1 400 ")
        assert (await get(port, "/healthz")).startswith(b"HTTP/1.1 200 ")

    serve(tmp_path, use)


def test_clients_that_ask_nothing_are_ended_and_beyond_the_ceiling_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "REQUEST_SECONDS", 0.5)

    async def use(port: int, _: MetricsEndpoint) -> None:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_CONNECTIONS)]
        idle[0].send(b"GET /met")
        with contextlib.suppress(ConnectionResetError):
            assert await get(port, "/healthz") == b"", "no connection is free"
        for each in idle:
            each.setblocking(False)
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(each, 1), 10) == b""
            each.close()
        assert (await get(port, "/healthz")).startswith(b"HTTP/1.1 200 ")

    serve(tmp_path, use)


def test_a_program_that_does_not_answer_is_reported_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "MEASURE_SECONDS", 0.1)

    async def use(port: int, _: MetricsEndpoint) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:  # the program's own loop is blocked
            client.send(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 503 ")

    serve(tmp_path, use)


def test_a_new_address_is_served_and_the_old_one_closed(tmp_path: Path) -> None:
    async def use(port: int, endpoint: MetricsEndpoint) -> None:
        other = free_port()
        await endpoint.follow(MetricsSettings(listen=Address("127.0.0.1", other)))
        assert (await get(other, "/healthz")).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ConnectionRefusedError):
            await get(port, "/healthz")
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UnavailableError, match="already in use"):
            await endpoint.follow(MetricsSettings(listen=Address(*taken.getsockname())))
        assert (await get(other, "/healthz")).startswith(b"HTTP/1.1 200 "), "the former one stays"
        await endpoint.follow(None)
        with pytest.raises(ConnectionRefusedError):
            await get(other, "/healthz")

    serve(tmp_path, use)
