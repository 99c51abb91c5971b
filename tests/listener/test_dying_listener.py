"""A listener whose process is killed accepts no connection after its first connection has ended."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from harness.openssh import generate_key

ROUNDS = 15
SSH_ROUNDS = 5
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
SSH_LISTENER = """
import asyncio, sys
from relay.listener.admission.admission import Admission
from relay.listener.ssh.ssh_endpoint import SshEndpoint

async def listen():
    async def never(stream):
        await asyncio.Event().wait()
    files = dict(host_key_file=sys.argv[1], authorized_keys_file=sys.argv[2])
    none_dropped = Admission(chance=lambda: 1.0)
    async with SshEndpoint("127.0.0.1", 0, **files, allowed=(), serve=never, admission=none_dropped) as endpoint:
        print(endpoint.address[1], flush=True)
        await asyncio.Event().wait()

asyncio.run(listen())
"""


@contextmanager
def listener(program: str = LISTENER, *arguments: str) -> Iterator[tuple[int, int]]:
    """A listening process: its id and its port."""
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.pid, int(child.stdout.readline())
        finally:
            child.kill()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_a_killed_process_refuses_connections_before_its_own_connections_end(_: int) -> None:
    with listener() as (pid, port), ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(CONNECTIONS)]
        _kill_and_connect(pid, port, connections)


@pytest.mark.parametrize("_", range(SSH_ROUNDS))
def test_a_killed_ssh_end_refuses_connections_before_its_own_connections_end(_: int, tmp_path: Path) -> None:
    key, keys = generate_key(tmp_path / "host"), tmp_path / "keys"
    keys.touch()
    with listener(SSH_LISTENER, str(key), str(keys)) as (pid, port), ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(CONNECTIONS)]
        for connection in connections:
            assert connection.recv(64).startswith(b"SSH-")
        _kill_and_connect(pid, port, connections)


def _kill_and_connect(pid: int, port: int, connections: list[socket.socket]) -> None:
    os.kill(pid, signal.SIGKILL)
    assert select.select(connections, [], [], 10)[0]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
