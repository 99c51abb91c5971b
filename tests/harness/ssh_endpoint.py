"""relay's own SSH end on an event loop of its own, in a thread of the test."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from harness.openssh import SshClient, generate_key, run_ssh
from harness.ports import LOOPBACK
from relay.listener.admission.admission import Admission
from relay.listener.ssh.channel_stream import ChannelStream
from relay.listener.ssh.ssh_connection import EndpointLimits
from relay.listener.ssh.ssh_endpoint import SshEndpoint
from relay.transport.ssh.handshake import HandshakeLimits
from relay.transport.ssh.liveness import LivenessTimeouts
from relay.transport.ssh.session import SshSession
from relay.values.configuration.settings import PortForwarding

PORT = 9999
"""The port of the one listener to which senders may forward; nothing listens there."""


class RunningEndpoint:
    """An endpoint; its listener keeps the octets and closes at their end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host_key = generate_key(folder / "host")
        self.client_key = generate_key(folder / "client")
        self.authorized_keys = folder / "authorized_keys"
        self.authorize()
        self.known_hosts = folder / "known_hosts"
        self.received: list[bytes] = []
        self.streams: list[ChannelStream] = []
        self.serve: Callable[[ChannelStream], Awaitable[None]] = self.read_to_the_end
        self.limits = EndpointLimits()
        self.admission = Admission()
        self.loop = asyncio.new_event_loop()

    def authorize(self, options: str = "restrict,port-forwarding") -> None:
        self.authorized_keys.write_text(f"{options} {self.client_key.with_suffix('.pub').read_text()}")

    async def read_to_the_end(self, stream: ChannelStream) -> None:
        await self.read(stream)
        await stream.close()

    async def read(self, stream: ChannelStream) -> None:
        number = len(self.received)
        self.received.append(b"")
        while data := await stream.read():
            self.received[number] += data

    async def _serve(self, stream: ChannelStream) -> None:
        self.streams.append(stream)
        await self.serve(stream)

    @contextlib.contextmanager
    def running(self) -> Iterator["RunningEndpoint"]:
        thread = threading.Thread(target=self.loop.run_forever)
        thread.start()
        self.endpoint = SshEndpoint(
            LOOPBACK,
            0,
            host_key_file=str(self.host_key),
            authorized_keys_file=str(self.authorized_keys),
            allowed={(LOOPBACK, PORT)},
            serve=self._serve,
            limits=self.limits,
            admission=self.admission,
        )
        try:
            self.run(self.endpoint.start())
            _, self.port = self.endpoint.address
            kind, blob = self.host_key.with_suffix(".pub").read_text().split()[:2]
            self.known_hosts.write_text(f"[{LOOPBACK}]:{self.port} {kind} {blob}\n")
            yield self
        finally:
            self.run(self.endpoint.stop())
            self.loop.call_soon_threadsafe(self.loop.stop)
            thread.join()
            self.loop.close()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def session(self, **changes: object) -> SshSession:
        settings: dict[str, object] = {
            "remote_port": PORT,
            "server_address": LOOPBACK,
            "server_port": self.port,
            "private_key": str(self.client_key),
            "known_hosts": str(self.known_hosts),
        }
        limits = HandshakeLimits(liveness=LivenessTimeouts(quiet=0.5, answer=20))
        return SshSession.connect(PortForwarding.model_validate(settings | changes), threading.Event(), limits=limits)

    def ssh(self, *arguments: str) -> tuple[int, str]:
        done = run_ssh(arguments, key=self.client_key, known_hosts=self.known_hosts, port=self.port)
        return done.returncode, done.stderr

    def foreign_client(self) -> SshClient:
        destination = f"localhost:{PORT}"
        return SshClient(port=self.port, key=self.client_key, known_hosts=self.known_hosts, destination=destination)
