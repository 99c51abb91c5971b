# The part of sshtunnel 0.5 that relay uses; the library has no types, and the overridden methods are not public.

import logging
import socket
import socketserver
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import paramiko

_Address: TypeAlias = tuple[str, int]

class BaseSSHTunnelForwarderError(Exception): ...
class HandlerSSHTunnelForwarderError(BaseSSHTunnelForwarderError): ...

class _Opener(Protocol):
    def open_channel(
        self, kind: str, dest_addr: _Address, src_addr: tuple[Any, ...], timeout: float
    ) -> paramiko.Channel: ...

class _ForwardHandler(socketserver.BaseRequestHandler):
    remote_address: _Address
    ssh_transport: _Opener
    logger: logging.Logger
    def _redirect(self, chan: paramiko.Channel) -> None: ...

class _ForwardServer(socketserver.TCPServer):
    socket: socket.socket
    def __init__(self, address: _Address, handler: type[_ForwardHandler], /, *, logger: logging.Logger) -> None: ...

class _ThreadingForwardServer(socketserver.ThreadingMixIn, _ForwardServer): ...

class SSHTunnelForwarder:
    skip_tunnel_checkup: bool
    is_alive: bool
    logger: logging.Logger
    _transport: paramiko.Transport
    _server_list: list[_ForwardServer]
    def __init__(
        self,
        ssh_address_or_host: _Address,
        *,
        ssh_config_file: str | None,
        ssh_username: str,
        allow_agent: bool,
        local_bind_address: _Address,
        remote_bind_address: _Address,
        logger: logging.Logger,
    ) -> None: ...
    @staticmethod
    def _consolidate_auth(**given: object) -> tuple[str | None, list[paramiko.PKey]]: ...
    def _connect_to_gateway(self) -> None: ...
    def _make_ssh_forward_handler_class(self, remote_address_: _Address) -> type[_ForwardHandler]: ...
    def _make_ssh_forward_server_class(self, remote_address_: _Address) -> Callable[..., _ForwardServer]: ...
    def _serve_forever_wrapper(self, _srv: _ForwardServer, poll_interval: float = ...) -> None: ...
    def start(self) -> None: ...
    def stop(self, force: bool = ...) -> None: ...
