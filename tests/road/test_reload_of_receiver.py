"""`relay receive` reloads: listeners begin and end, identities are exchanged, and other sessions continue."""

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.certificates import Authority
from harness.openssh import generate_key
from harness.ports import LOOPBACK, free_port, listens
from harness.process import Process
from harness.receiver import Receiver
from harness.relay import RELAY
from harness.waiting import wait_until


class FromFile:
    """`relay receive -c FILE`, whose listeners can change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = [free_port(), free_port()]
        self.configuration = folder / "relay.toml"
        self.archive = folder / "archive"
        self.state = folder / "state"
        self.tables = ""
        self.write(self.ports[0])

    def write(self, *ports: int) -> None:
        """Listen on these ports."""
        listen = ", ".join(f'"tcp://{LOOPBACK}:{port}"' for port in ports)
        self.configuration.write_text(
            f'[relay]\nstate-directory = "{self.state}"\n'
            f'[receiver]\narchive = "{self.archive}"\nlisten = [{listen}]\n{self.tables}'
        )

    def start(self) -> Process:
        return Process([*RELAY, "-c", str(self.configuration), "receive"], self.folder / "receive.log")

    def reload(self) -> "subprocess.CompletedProcess[str]":
        argv = [*RELAY, "-c", str(self.configuration), "reload"]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def from_file(tmp_path: Path) -> FromFile:
    return FromFile(tmp_path)


@pytest.fixture
def running(from_file: FromFile) -> Iterator[Process]:
    with from_file.start() as process:
        process.wait_for_log("ready: ")
        yield process


def sent(connection: socket.socket, text: str) -> None:
    message = f"<13>1 - sender program - - - {text}".encode()
    connection.sendall(b"%d %s" % (len(message), message))


def archived(folder: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in folder.glob("[!.]*/*.log"))


def test_listeners_begin_and_end_while_an_unchanged_session_continues(from_file: FromFile, running: Process) -> None:
    first, second = from_file.ports
    with socket.create_connection((LOOPBACK, first)) as session:
        sent(session, "before")
        from_file.write(first, second)
        done = from_file.reload()
        assert (done.stdout, done.stderr) == (f"listener tcp://{LOOPBACK}:{second} begun\n", "")
        with socket.create_connection((LOOPBACK, second)) as other:
            sent(other, "by the other")
            wait_until(lambda: archived(from_file.archive, "by the other"), 60, lambda: running.log)
            from_file.write(first)
            assert from_file.reload().stdout == f"listener tcp://{LOOPBACK}:{second} ended\n"
            with pytest.raises(ConnectionResetError):
                other.recv(1)
        assert not listens(second)
        sent(session, "after")
        session.shutdown(socket.SHUT_WR)
        assert session.recv(1) == b"", "accepted"
    wait_until(lambda: archived(from_file.archive, "after"), 60, lambda: running.log)
    assert archived(from_file.archive, "before")


def test_a_port_that_is_in_use_refuses_the_reload_and_the_listeners_continue(
    from_file: FromFile, running: Process
) -> None:
    first, second = from_file.ports
    third = free_port()
    with socket.create_server((LOOPBACK, second)), socket.create_connection((LOOPBACK, first)) as session:
        from_file.write(first, third, second)
        done = from_file.reload()
        assert done.returncode == 69
        assert f"tcp://{LOOPBACK}:{second}: the address is already in use" in done.stderr
        assert "the reload is refused, the former configuration holds" in running.log
        assert not listens(third)
        sent(session, "goes on")
        wait_until(lambda: archived(from_file.archive, "goes on"), 60, lambda: running.log)
        assert listens(first)


def test_a_listener_whose_port_a_new_one_needs_listens_again_when_the_new_one_fails(
    from_file: FromFile, running: Process
) -> None:
    """Nothing can listen on a name while another listener has one of its addresses."""
    first, second = from_file.ports
    by_name = from_file.configuration.read_text().replace(LOOPBACK, "localhost")
    with socket.create_server((LOOPBACK, second)):
        from_file.configuration.write_text(by_name.replace(f':{first}"', f':{first}", "tcp://{LOOPBACK}:{second}"'))
        assert from_file.reload().returncode == 69
        assert listens(first)
    from_file.configuration.write_text(by_name)
    done = from_file.reload()
    assert done.stdout.splitlines() == [
        f"listener tcp://{LOOPBACK}:{first} ended",
        f"listener tcp://localhost:{first} begun",
    ]
    del running


def test_new_connections_get_the_new_certificate_and_open_ones_continue(from_file: FromFile, tmp_path: Path) -> None:
    authority, port = Authority(tmp_path / "certificates"), free_port()
    former, latter = authority.pair("former"), authority.pair("latter")
    key = generate_key(tmp_path / "host_key")
    (tmp_path / "authorized_keys").touch(0o600)
    ssh_port = free_port()
    ssh_table = (
        f'[receiver.ssh]\nlisten = "{LOOPBACK}:{ssh_port}"\nhost-key = "{key}"\n'
        f'authorized-keys = "{tmp_path / "authorized_keys"}"\n'
    )
    tls_table = '[receiver.tls]\nlisten = "{}:{}"\ncertificate = "{}"\nprivate-key = "{}"\n'
    from_file.tables = tls_table.format(LOOPBACK, port, former.certificate, former.key) + ssh_table
    from_file.write(from_file.ports[0])
    with from_file.start() as process:
        process.wait_for_log("ready: ")
        before_key = scanned(ssh_port)
        with shown(port) as before:
            serial = before.getpeercert(binary_form=True)
            generate_key(tmp_path / "host_key_2").replace(key)
            from_file.tables = tls_table.format(LOOPBACK, port, latter.certificate, latter.key) + ssh_table
            from_file.write(from_file.ports[0])
            done = from_file.reload()
            assert done.stdout.splitlines() == [
                "certificate, private key and CA of [receiver.tls] read again",
                "host key and authorized keys of [receiver.ssh] read again",
            ], done.stderr
            with shown(port) as after:
                assert after.getpeercert(binary_form=True) != serial
            assert scanned(ssh_port) != before_key
            message = b"<13>1 - sender program - - - by the former"
            before.sendall(b"%d %s" % (len(message), message))
            wait_until(lambda: archived(from_file.archive, "by the former"), 60, lambda: process.log)


def shown(port: int) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection((LOOPBACK, port)))


def scanned(port: int) -> str:
    import paramiko

    with socket.create_connection((LOOPBACK, port)) as connection, paramiko.Transport(connection) as transport:
        transport.start_client(timeout=60)
        return transport.get_remote_server_key().get_base64()


def test_a_receiver_configured_by_flags_reloads_too_and_refuses_a_missing_file(tmp_path: Path) -> None:
    key = generate_key(tmp_path / "host_key")
    keys = tmp_path / "authorized_keys"
    keys.touch(0o600)
    receiver = Receiver(
        tmp_path / "server",
        *("--ssh-listen", f"{LOOPBACK}:{free_port()}", "--host-key", str(key), "--authorized-keys", str(keys)),
    )
    with receiver.running() as process:
        process.wait_for_log("ready: ")
        os.kill(process.pid, signal.SIGHUP)
        process.wait_for_log("reloaded: nothing changed")
        key.unlink()
        os.kill(process.pid, signal.SIGHUP)
        process.wait_for_log(f"receiver.ssh.host-key: private key {key}")
        assert "the reload is refused, the former configuration holds: 1 mistake\n" in process.log


def test_an_ordinary_end_of_a_session_is_not_a_warning_and_v_logs_sessions(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "server", "-v")
    with receiver.running() as process:
        with socket.create_connection((LOOPBACK, receiver.port)) as session:
            peer = f"tcp://{LOOPBACK}:{session.getsockname()[1]}"
            sent(session, "whole")
            session.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as an SSH end looks
            wait_until(lambda: archived(receiver.archive, "whole"), 60, lambda: process.log)
        process.wait_for_log(f"connection from {peer} opened")
        process.wait_for_log(f"connection from {peer} ended: the peer broke it off")
        with socket.create_connection((LOOPBACK, receiver.port)) as session:
            session.sendall(b"50 <13>1 - sender")
            session.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        process.wait_for_log("aborted: connection from")
