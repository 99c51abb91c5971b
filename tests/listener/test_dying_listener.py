"""A listener whose process is killed accepts no connection after its first connection has ended."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

ROUNDS = 15
CONNECTIONS = 20
LISTENER = """
import asyncio, contextlib
from relay.listener.tcp import TcpListener

async def listen():
    async def never(batch):
        return asyncio.get_running_loop().create_future()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(40):  # a router may have a port of its own
            listener = await stack.enter_async_context(TcpListener("127.0.0.1", 0, never))
        print(listener.address[1], flush=True)
        await asyncio.Event().wait()

asyncio.run(listen())
"""


@contextmanager
def listener() -> Iterator[tuple[int, int]]:
    """A listening process: its id and its port."""
    with subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.pid, int(child.stdout.readline())
        finally:
            child.kill()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_a_killed_process_refuses_connections_before_its_own_connections_end(_: int) -> None:
    with listener() as (pid, port), ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(CONNECTIONS)]
        os.kill(pid, signal.SIGKILL)
        assert select.select(connections, [], [], 10)[0]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
