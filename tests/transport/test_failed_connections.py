"""A failed connection leaves no open socket behind, which Python would report at some later time."""

import gc
import select
import socket
import struct
import threading

import pytest
from harness.ports import LOOPBACK

from relay.errors import ProtocolError, UnavailableError
from relay.transport.dial import DialTarget, TcpAddress, connect
from relay.transport.ssh import handshake
from relay.transport.ssh.handshake import DEFAULT_LIMITS, Handshake, pass_quietly
from relay.transport.udp import UdpTransport


def test_a_server_that_resets_the_connection_at_once_is_an_error_and_the_socket_is_closed(
    stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSH 9.8 does this to an address from which logins failed before."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def connect_and_be_reset(
            target: DialTarget,
            addresses: list[TcpAddress],
            make: type[socket.socket],
            stop: threading.Event,
            timeout: float,
        ) -> socket.socket:
            sock = connect(target, addresses, make, stop, timeout)
            connection, _ = listener.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            poll = select.poll()
            poll.register(sock, select.POLLHUP)
            assert poll.poll(20_000)
            return sock

        monkeypatch.setattr(handshake, "connect", connect_and_be_reset)
        host, port = listener.getsockname()
        server = Handshake(host, port, stop, DEFAULT_LIMITS, pass_quietly)
        with pytest.raises(ProtocolError, match="closed the connection before its SSH banner") as refused:
            server.exchange_keys("default")
    assert "PerSourcePenalties" in refused.value.remedy
    del refused
    gc.collect()  # what is left to it is an error of this test


def test_a_udp_collector_that_cannot_be_addressed_leaves_no_socket_behind() -> None:
    with pytest.raises(UnavailableError, match="permission denied") as refused:
        UdpTransport(
            "255.255.255.255", 514
        )  # the kernel refuses this one to a socket that has not asked for broadcasts
    del refused
    gc.collect()
