"""sshtunnel's listener for local programs, on a session of relay's."""

import functools
import logging
import select
import socket
from collections.abc import Callable
from typing import Any, Final

import paramiko
from sshtunnel import BaseSSHTunnelForwarderError, SSHTunnelForwarder, _ForwardHandler
from typing_extensions import override

from relay.errors import RelayError
from relay.transport.ssh import channel_mark
from relay.transport.ssh.forwarding.local_clients import LocalClients
from relay.transport.ssh.forwarding.local_servers import WINDOW, PortServer, SocketServer
from relay.transport.ssh.session import ChannelShortageError, SshSession
from relay.values.configuration.settings import PortForwarding

_COPIED: Final = 16_384
_LOOK_INTERVAL: Final = 5000  # milliseconds
_ATTEMPTS: Final = 3
"""To open a channel while other connections make room; programs that connect at the same time compete for it."""
_CLOSING: Final = 2.0
"""Seconds until a connection that makes room has closed its channel."""
_POLL_INTERVAL: Final = 3600.0  # seconds; sshtunnel polls ten times a second, although closing the socket wakes it

# sshtunnel's own log is silenced, as paramiko's is: its failures arrive as exceptions.
_silent = logging.getLogger("relay.port_forward.sshtunnel")
_silent.setLevel(logging.CRITICAL + 1)

ReportOutcome = Callable[[RelayError | None], None]
"""Called with the reason why a local program was not connected, or None when one was."""


class LocalListener(SSHTunnelForwarder):
    """sshtunnel on a session of relay's, at a port or a socket. For one start only."""

    skip_tunnel_checkup = True  # the check would connect to the collector

    def __init__(
        self, session: SshSession, forwarding: PortForwarding, clients: LocalClients, report: ReportOutcome
    ) -> None:
        self._session = session
        self._forwarding = forwarding
        self._clients = clients
        self._report = report
        super().__init__(
            (forwarding.server_address, forwarding.server_port),
            ssh_config_file=None,
            ssh_username=forwarding.username,
            allow_agent=False,
            local_bind_address=(forwarding.local_address, forwarding.local_port),
            remote_bind_address=(forwarding.remote_host, forwarding.remote_port),
            logger=_silent,
        )

    def __repr__(self) -> str:
        return f"<LocalListener on {self._session!r}>"

    __str__ = __repr__  # sshtunnel's shows passwords

    def listen(self) -> None:
        """Open the port; the session's error if that is lost, else `local_port.refusal`."""
        try:
            self.start()
        except BaseSSHTunnelForwarderError as error:
            raise self._session.loss(f"port-forwarding {self._forwarding.listens_on}") from error

    def close(self) -> None:
        """Close port, connections and session; whether or not it has been started."""
        if self.is_alive:
            self.stop(force=True)
        for server in self._server_list:  # bound, but never started: `stop` would wait for ever
            server.server_close()
        self._clients.cut()

    def open_channel(self, program: tuple[str, int]) -> paramiko.Channel:
        """A channel for the connection of a local program, which has an address, or a number at a socket."""
        originator = channel_mark.of_program(program)
        try:
            for _ in range(_ATTEMPTS):
                try:
                    channel = self._session.open_channel(originator, WINDOW)
                    break
                except ChannelShortageError:
                    if not self._clients.replace_one(program[1], _CLOSING):
                        raise
            else:
                channel = self._session.open_channel(originator, WINDOW)
        except RelayError as error:
            if self._session.alive:  # the thread that waits for the session reports its loss
                self._report(error)
            raise
        self._report(None)
        return channel

    # --- What sshtunnel would do by itself ---

    @staticmethod
    @override
    def _consolidate_auth(**given: object) -> tuple[None, list[paramiko.PKey]]:
        del given
        return None, []  # no password and no key: there is nothing to log in to

    @override
    def _connect_to_gateway(self) -> None:
        self._transport = self._session.layer

    @override
    def _make_ssh_forward_handler_class(self, remote_address_: tuple[str, int]) -> type[_ForwardHandler]:
        opener, clients = self, self._clients

        class Handler(_ForwardHandler):
            remote_address = remote_address_

            @override
            def handle(self) -> None:
                channel = opener.open_channel(self.client_address[:2])
                try:
                    _copy(self.request, channel, clients)
                finally:
                    channel.close()

        return Handler

    @override
    def _make_ssh_forward_server_class(self, remote_address_: tuple[str, int]) -> "Callable[..., PortServer]":
        del remote_address_
        if self._forwarding.local_socket:
            return functools.partial(SocketServer, self._clients, self._forwarding)
        return functools.partial(PortServer, self._clients, self._forwarding)

    @override
    def _serve_forever_wrapper(self, _srv: Any, poll_interval: float = _POLL_INTERVAL) -> None:
        _srv.serve_forever(poll_interval)


def _copy(program: socket.socket, channel: paramiko.Channel, clients: LocalClients) -> None:
    """Copy both directions until one ends; in place of sshtunnel's, whose select(2) fails above descriptor 1023."""
    clients.connected(program)
    poll = select.poll()
    poll.register(program, select.POLLIN)
    poll.register(channel, select.POLLIN)
    while channel.active:
        ready = {descriptor for descriptor, _ in poll.poll(_LOOK_INTERVAL)}
        if program.fileno() in ready:
            if not (data := program.recv(_COPIED)):
                return
            clients.has_sent(program)
            channel.sendall(data)
        if channel.fileno() in ready:
            if not channel.recv_ready():
                return
            program.sendall(channel.recv(_COPIED))
