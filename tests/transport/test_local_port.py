"""Whether relay can listen on a local port, and which process holds it, by the kernel's own tables."""

import os
import shutil
import socket
import subprocess
import sys

import pytest
from harness.ports import LOOPBACK, free_port

from relay.errors import CannotCreateError, TemporaryError
from relay.transport.ssh.forwarding import local_port

_LISTENER = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""
_LOOKER = """
from relay.errors import RelayError
from relay.transport.ssh.forwarding import local_port
try:
    local_port.require_free("127.0.0.1", 80)
except RelayError as error:
    print(error.exit_code, error.cause, "|", error.remedy)
"""


def test_a_free_port_has_no_holder() -> None:
    port = free_port()
    local_port.require_free(LOOPBACK, port)
    assert local_port.holder(LOOPBACK, port) == ""


def test_the_error_for_a_taken_port_names_the_process_that_holds_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _LISTENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        port = int(other.stdout.readline())
        with pytest.raises(TemporaryError, match=f"local port {LOOPBACK}:{port}: taken by ") as taken:
            local_port.require_free(LOOPBACK, port)
        assert taken.value.cause.endswith(f"(process {other.pid})")
        assert "local-port" in taken.value.remedy
        other.stdin.close()


@pytest.mark.parametrize(
    ("listening", "asked", "found"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("::1", "::1", True),
        ("::", "127.0.0.1", True),
        ("::1", "127.0.0.1", False),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
    ],
)
def test_exactly_the_conflicting_addresses_are_found(listening: str, asked: str, *, found: bool) -> None:
    with socket.socket(local_port.family(listening)) as sock:
        sock.bind((listening, 0))
        sock.listen()
        holder = local_port.holder(asked, sock.getsockname()[1])
    assert holder.endswith(f"(process {os.getpid()})") is found


def test_an_address_of_another_machine_is_not_retried() -> None:
    with pytest.raises(CannotCreateError, match="this machine has no such address; correct local-address") as refused:
        local_port.require_free("192.0.2.1", free_port())
    assert not refused.value.retryable


def test_the_error_for_a_privileged_port_names_the_privilege() -> None:
    argv = [sys.executable, "-c", _LOOKER]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        assert setpriv is not None
        argv = [setpriv, "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service", *argv]
    output = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout
    assert output.startswith("77 relay's user is not allowed to listen on it | choose a local-port from 1024 up")
