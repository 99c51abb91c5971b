"""relay's own SSH end: with OpenSSH's client, with relay's own session, and with clients that cannot log in."""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from harness.debian import OPENSSH, fetch
from harness.names import with_addresses
from harness.openssh import fingerprint, generate_key, ssh_command
from harness.ports import LOOPBACK, free_port
from harness.receiver import Receiver
from harness.ssh_endpoint import PORT, RunningEndpoint
from harness.waiting import wait_until

from relay.errors import NoInputError, PermissionRefusedError, ProtocolError, TemporaryError, UnavailableError
from relay.listener.admission.admission import Admission, ConnectionLimits
from relay.listener.ssh.channel_stream import ChannelStream
from relay.listener.ssh.ssh_connection import EndpointLimits
from relay.listener.ssh.ssh_endpoint import SshEndpoint
from relay.transport.ssh import channel_mark
from relay.transport.ssh.forwarding.port_forward import PortForward
from relay.transport.ssh.liveness import LivenessTimeouts
from relay.transport.ssh.session import SshPipe, SshSession
from relay.values.provenance import ReceiptMark

_MEGABYTE = b"x" * (1 << 20)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[RunningEndpoint]:
    with RunningEndpoint(tmp_path).running() as running:
        yield running


def _prove(session: SshSession, pipe: SshPipe) -> None:
    pipe.half_close()
    pipe.drained(60)
    session.open()


def test_relays_own_session_delivers_with_proof(receiver: RunningEndpoint) -> None:
    with receiver.session() as session:
        pipe = session.open()
        pipe.send(_MEGABYTE * 20 + b"end")
        _prove(session, pipe)
        assert receiver.received[0] == _MEGABYTE * 20 + b"end"


def test_openssh_forwards_through_it(receiver: RunningEndpoint) -> None:
    with receiver.foreign_client() as client, socket.create_connection((LOOPBACK, client.local_port)) as sender:
        sender.sendall(_MEGABYTE * 20)
        sender.shutdown(socket.SHUT_WR)
        assert sender.recv(1) == b""
        assert receiver.received == [_MEGABYTE * 20]


@pytest.mark.parametrize("name", ["curve25519-sha256", "curve25519-sha256@libssh.org"])
def test_a_client_can_use_either_name_of_a_key_exchange(receiver: RunningEndpoint, name: str) -> None:
    _, output = receiver.ssh("-v", "-o", f"KexAlgorithms={name}", "-W", f"{LOOPBACK}:{PORT}", f"relay@{LOOPBACK}")
    assert f"kex: algorithm: {name}\n" in output
    assert "Authenticated to" in output


@pytest.mark.parametrize(
    "option",
    [
        "KexAlgorithms=ecdh-sha2-nistp256",
        "KexAlgorithms=ecdh-sha2-nistp384",
        "KexAlgorithms=ecdh-sha2-nistp521",
        "Ciphers=aes256-gcm@openssh.com",
        "Ciphers=aes128-ctr,MACs=hmac-sha2-256-etm@openssh.com",
        "Ciphers=aes192-ctr,MACs=hmac-sha2-512-etm@openssh.com",
        "Ciphers=aes256-ctr,MACs=hmac-sha2-256",
        "Ciphers=aes256-ctr,MACs=hmac-sha2-512",
        "Compression=yes",
        "RekeyLimit=1K",
        "ForwardAgent=yes,ForwardX11=yes",
    ],
)
def test_openssh_delivers_with_each_algorithm_and_over_new_keys(receiver: RunningEndpoint, option: str) -> None:
    root = fetch(OPENSSH)
    command = ssh_command(root, key=receiver.client_key, known_hosts=receiver.known_hosts, port=receiver.port)
    options = [word for each in option.split(",") for word in ("-o", each)]
    argv = [*command, *options, "-W", f"{LOOPBACK}:{PORT}", f"relay@{LOOPBACK}"]
    data = os.urandom(1 << 17)
    done = subprocess.run(argv, env=root.environment(), input=data, capture_output=True, timeout=60, check=False)
    assert (done.returncode, receiver.received) == (0, [data]), done.stderr


@pytest.mark.parametrize(("kind", "bits"), [("rsa", "2048"), ("ecdsa", "384"), ("ecdsa", "521")])
def test_every_kind_of_key_is_a_host_key_and_a_senders_key_also_with_fips_algorithms(
    tmp_path: Path, kind: str, bits: str
) -> None:
    receiver = RunningEndpoint(tmp_path)
    receiver.host_key = generate_key(tmp_path / "other host", kind, "-b", bits)
    receiver.client_key = generate_key(tmp_path / "other client", kind, "-b", bits)
    receiver.authorize()
    with receiver.running():
        assert receiver.ssh("-W", f"{LOOPBACK}:{PORT}", f"relay@{LOOPBACK}") == (0, "")
        with receiver.session(algorithms="fips") as session:
            pipe = session.open()
            pipe.send(b"message")
            _prove(session, pipe)
        wait_until(lambda: receiver.received == [b"", b"message", b""], 60, "the stream after the proof has ended")


def test_the_server_renews_keys_while_both_sides_send(receiver: RunningEndpoint) -> None:
    async def echo(stream: ChannelStream) -> None:
        while data := await stream.read():
            await stream.write(data)
        await stream.close()

    receiver.serve = echo
    options = receiver.endpoint._options.value
    assert options is not None
    options.rekey_bytes = 100_000
    data = os.urandom(1 << 20)
    with receiver.session() as session:
        first = session._layer.H
        channel = session.open_channel()
        threading.Thread(target=channel.sendall, args=(data,), daemon=True).start()
        received = b""
        while len(received) < len(data):
            received += channel.recv(1 << 16)
        assert received == data
        assert first != session._layer.H


def test_many_channels_work_one_after_another_and_in_parallel(receiver: RunningEndpoint) -> None:
    with receiver.session() as session:
        for number in range(300):
            pipe = session.open()
            pipe.send(b"%d" % number)
            pipe.half_close()
            pipe.drained(60)
        pipes = [session.open() for _ in range(receiver.limits.channels)]
        for pipe in pipes:
            pipe.send(b"together")
        for pipe in pipes:
            pipe.half_close()
            pipe.drained(60)
    assert receiver.received == [b"%d" % number for number in range(300)] + [b"together"] * receiver.limits.channels


def test_a_stream_has_its_senders_key(receiver: RunningEndpoint) -> None:
    with receiver.session() as session:
        session.open()
        wait_until(lambda: receiver.streams, 60, "a stream arrives")
        stream = receiver.streams[0]
    assert stream.key.key.fingerprint == fingerprint(receiver.client_key.with_suffix(".pub"))
    assert stream.key.comment == "client"
    assert stream.peer.startswith(f"ssh://{LOOPBACK}:")
    assert stream.peer.endswith("(client)")
    assert stream.destination == (LOOPBACK, PORT)


def test_only_the_channels_of_relays_own_delivery_are_unmarked(receiver: RunningEndpoint) -> None:
    """Also when a local program connects from the very address that is the mark."""

    def send(port: int, count: int, source: str = "") -> None:
        with socket.create_connection((LOOPBACK, port), source_address=(source, 0)) as program:
            program.sendall(b"message")
            wait_until(lambda: len(receiver.streams) == count, 60, "a stream arrives")

    with receiver.session() as session:
        session.open()
        session.open_channel(channel_mark.FORMER)
        wait_until(lambda: len(receiver.streams) == 2, 60, "two streams arrive")
        forwarding = session._forwarding.model_copy(update={"local_port": free_port()})
    forward = PortForward(forwarding)
    forward.start()
    try:
        wait_until(lambda: forward.state == "listening", 60, lambda: repr(forward.error))
        send(forwarding.local_port, 3)
        send(forwarding.local_port, 4, channel_mark.OWN[0])
    finally:
        forward.stop()
    with receiver.foreign_client() as client:
        send(client.local_port, 5)
    assert [stream.marks for stream in receiver.streams] == [0, 0, *[ReceiptMark.FORWARDED] * 3]
    assert {stream.identity for stream in receiver.streams} == {fingerprint(receiver.client_key.with_suffix(".pub"))}
    assert {stream.address for stream in receiver.streams} == {LOOPBACK}


def test_the_sender_sees_the_end_only_when_the_stream_is_closed(receiver: RunningEndpoint) -> None:
    durable = asyncio.Event()

    async def close_when_durable(stream: ChannelStream) -> None:
        await receiver.read(stream)
        await durable.wait()
        await stream.close()

    receiver.serve = close_when_durable
    with receiver.session() as session:
        pipe = session.open()
        pipe.send(b"message")
        pipe.half_close()
        with pytest.raises(TemporaryError):
            pipe.drained(0.3)
        receiver.loop.call_soon_threadsafe(durable.set)
        pipe.drained(60)


async def _abort(stream: ChannelStream) -> None:
    stream.abort()


async def _fail(stream: ChannelStream) -> None:
    raise ArithmeticError(stream.peer)


async def _refuse(stream: ChannelStream) -> None:
    raise UnavailableError(stream.peer, "no room")


async def _forget(stream: ChannelStream) -> None:
    del stream


@pytest.mark.parametrize("end", [_abort, _fail, _refuse, _forget])
def test_a_stream_that_is_not_closed_cleanly_never_looks_drained(
    receiver: RunningEndpoint, end: Callable[[ChannelStream], Awaitable[None]]
) -> None:
    async def read_and_end(stream: ChannelStream) -> None:
        await receiver.read(stream)
        await end(stream)

    receiver.serve = read_and_end
    with receiver.session() as session:
        pipe = session.open()
        pipe.send(b"message")
        with pytest.raises(UnavailableError):
            _prove(session, pipe)
        wait_until(lambda: not session.alive, 60, "the connection is broken off")


def test_a_stop_breaks_off_open_streams(tmp_path: Path) -> None:
    receiver = RunningEndpoint(tmp_path)
    with receiver.running():
        session = receiver.session()
        pipe = session.open()
        pipe.send(b"message")
        wait_until(lambda: receiver.received == [b"message"], 60, "the message arrives")
    with pytest.raises(UnavailableError):
        _prove(session, pipe)
    session.close()


def test_a_stop_also_ends_the_task_of_a_stream_whose_connection_has_ended(tmp_path: Path) -> None:
    receiver = RunningEndpoint(tmp_path)
    ended: list[str] = []

    async def outlast(stream: ChannelStream) -> None:
        with contextlib.suppress(UnavailableError):
            await receiver.read(stream)
        ended.append("stream")
        try:
            await asyncio.Event().wait()  # for an fsync, say
        finally:
            ended.append("service")

    receiver.serve = outlast
    with receiver.running():
        with receiver.session() as session:
            session.open()
            wait_until(lambda: receiver.streams, 60, "the stream is served")
        wait_until(lambda: ended == ["stream"], 60, "the connection is gone")
    assert ended == ["stream", "service"]


def test_a_lost_connection_is_not_an_end_of_file(receiver: RunningEndpoint) -> None:
    errors: list[UnavailableError] = []

    async def note(stream: ChannelStream) -> None:
        try:
            await receiver.read(stream)
        except UnavailableError as error:
            errors.append(error)
            raise

    receiver.serve = note
    with receiver.session() as session:
        pipe = session.open()  # kept: a channel that is collected as garbage ends cleanly
        pipe.send(b"message")
        wait_until(lambda: receiver.received == [b"message"], 60, "the message arrives")
    wait_until(lambda: errors, 60, "the stream's reader has an error")
    assert "lost" in errors[0].cause


def test_a_cancelled_read_loses_nothing(receiver: RunningEndpoint) -> None:
    async def cancel_every_read(stream: ChannelStream) -> None:
        receiver.received.append(b"")
        while True:
            try:
                async with asyncio.timeout(0.0005):
                    data = await stream.read()
            except TimeoutError:
                continue
            if not data:
                break
            receiver.received[0] += data
        await stream.close()

    receiver.serve = cancel_every_read
    with receiver.session() as session:
        pipe = session.open()
        for number in range(200):
            pipe.send(b"%05d" % number * 500)
        pipe.half_close()
        pipe.drained(60)
    assert receiver.received[0] == b"".join(b"%05d" % number * 500 for number in range(200))


def test_a_listener_that_does_not_read_makes_the_sender_wait(receiver: RunningEndpoint) -> None:
    reading = asyncio.Event()

    async def wait_first(stream: ChannelStream) -> None:
        await reading.wait()
        await receiver.read_to_the_end(stream)

    receiver.serve = wait_first
    with receiver.session() as session:
        pipe = session.open()
        sent = threading.Event()

        def send() -> None:
            pipe.send(_MEGABYTE * 3)
            sent.set()

        threading.Thread(target=send, daemon=True).start()
        assert not sent.wait(1)
        wait_until(lambda: receiver.streams, 60, "the stream arrives")
        assert receiver.streams[0].unread <= 1 << 20
        receiver.loop.call_soon_threadsafe(reading.set)
        assert sent.wait(60)
        pipe.half_close()
        pipe.drained(60)
    assert receiver.received == [_MEGABYTE * 3]


# --- Refusals ---


@pytest.mark.parametrize(
    "arguments",
    [
        ("relay@127.0.0.1", "id"),
        ("relay@127.0.0.1",),
        ("-s", "relay@127.0.0.1", "sftp"),
        ("-tt", "relay@127.0.0.1"),
        ("-N", "-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:0:127.0.0.1:22", "relay@127.0.0.1"),
        ("-W", "127.0.0.1:22", "relay@127.0.0.1"),
        ("-W", "192.0.2.1:9999", "relay@127.0.0.1"),
    ],
)
def test_a_shell_a_command_sftp_and_other_addresses_are_refused(
    receiver: RunningEndpoint, arguments: tuple[str, ...]
) -> None:
    code, output = receiver.ssh(*arguments)
    assert code == 255, output
    assert (
        "open failed" in output or "forwarding failed" in output or "forward failed" in output or "prohibited" in output
    ), output
    assert not receiver.streams


def test_a_session_for_another_address_is_refused(receiver: RunningEndpoint) -> None:
    with (
        receiver.session(remote_port=22) as session,
        pytest.raises(UnavailableError, match="administratively prohibited") as refused,
    ):
        session.open()
    assert "`relay receive` forwards to its own listeners only" in refused.value.remedy
    assert f"check that {LOOPBACK}:22 is one of them" in refused.value.remedy


@pytest.mark.parametrize("spelling", ["localhost", "127.0.0.1", "::1"])
def test_every_spelling_of_loopback_reaches_the_listener(receiver: RunningEndpoint, spelling: str) -> None:
    with receiver.session(remote_host=spelling) as session:
        session.open()


def test_permitopen_of_the_key_is_honoured(receiver: RunningEndpoint) -> None:
    receiver.authorize(f'restrict,port-forwarding,permitopen="127.0.0.1:{PORT + 1}"')
    with receiver.session() as session, pytest.raises(UnavailableError, match="administratively prohibited"):
        session.open()


@pytest.mark.parametrize("options", ['from="192.0.2.1"', 'command="x"', "cert-authority", "restrict"])
def test_a_key_with_an_option_that_is_not_enforced_cannot_log_in(receiver: RunningEndpoint, options: str) -> None:
    receiver.authorize(options)
    with pytest.raises(PermissionRefusedError, match="refuses") as refused:
        receiver.session()
    assert refused.value.remedy.startswith("its log names the reason; if its authorized-keys file lacks the key")


def test_the_keys_file_is_read_at_every_login(receiver: RunningEndpoint) -> None:
    receiver.session().close()
    receiver.authorized_keys.write_text("")
    with pytest.raises(PermissionRefusedError, match="refuses"):
        receiver.session()
    receiver.authorized_keys.unlink()
    with pytest.raises(PermissionRefusedError, match="refuses"):
        receiver.session()
    receiver.authorize()
    receiver.session().close()


def test_a_client_without_an_authorized_key_gets_nothing(receiver: RunningEndpoint) -> None:
    with socket.create_connection((LOOPBACK, receiver.port)) as sock:
        transport = paramiko.Transport(sock)
        transport.start_client()
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_password("root", "")
        assert refused.value.allowed_types == ["publickey"]
        with pytest.raises(paramiko.SSHException):
            transport.open_channel("direct-tcpip", (LOOPBACK, PORT), (LOOPBACK, 0), timeout=30)
        transport.close()
    assert not receiver.streams


def test_a_peer_that_sends_beyond_its_window_is_disconnected(receiver: RunningEndpoint) -> None:
    async def never_read(stream: ChannelStream) -> None:
        await asyncio.Event().wait()
        del stream

    receiver.serve = never_read
    with receiver.session() as session:
        pipe = session.open()
        pipe._channel.out_window_size = 1 << 30
        with pytest.raises(UnavailableError):
            pipe.send(_MEGABYTE * 8)


def test_a_peer_that_sends_extended_data_is_disconnected(receiver: RunningEndpoint) -> None:
    with receiver.session() as session:
        session.open()._channel.send_stderr(b"x")
        wait_until(lambda: not session.alive, 60, "the connection is broken off")


# --- Clients without a login, limits, silence ---


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n" * 200, b"SSH-2.0-x\r\n" + b"\x7f\xff\xff\xff" * 50, b"\x00" * 5000, b"SSH-1.5-x\r\n"],
)
def test_garbage_before_the_login_prints_and_logs_no_traceback(
    receiver: RunningEndpoint, garbage: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO),
        socket.create_connection((LOOPBACK, receiver.port)) as stranger,
        contextlib.suppress(OSError),  # it may be thrown out before it has finished
    ):
        stranger.sendall(garbage)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(4096):
            continue
    receiver.session().close()
    assert capfd.readouterr() == ("", "")
    assert "Traceback" not in caplog.text


def test_a_client_that_floods_before_the_login_is_disconnected(receiver: RunningEndpoint) -> None:
    with (
        socket.create_connection((LOOPBACK, receiver.port)) as stranger,
        pytest.raises(OSError, match=r"reset|pipe"),
    ):
        stranger.sendall(b"x" * (100 << 20))


def _limited(folder: Path, limits: EndpointLimits) -> contextlib.AbstractContextManager[RunningEndpoint]:
    receiver = RunningEndpoint(folder)
    receiver.limits = limits
    return receiver.running()


def test_a_connection_without_a_login_in_time_is_closed(tmp_path: Path) -> None:
    with (
        _limited(tmp_path, EndpointLimits(authentication=0.3)) as receiver,
        socket.create_connection((LOOPBACK, receiver.port)) as stranger,
    ):
        stranger.settimeout(60)
        begun = time.monotonic()
        while stranger.recv(4096):
            continue
        assert time.monotonic() - begun < 20  # of the 30 by default


@pytest.mark.parametrize(
    "limits",
    [
        ConnectionLimits(unauthenticated=2),
        ConnectionLimits(per_address=2, exempt=()),
        ConnectionLimits(connections=2),
    ],
)
def test_connections_beyond_a_ceiling_are_reset_and_counted_and_later_ones_succeed(
    tmp_path: Path, limits: ConnectionLimits
) -> None:
    limited = RunningEndpoint(tmp_path)
    limited.admission = Admission(limits, monotonic=lambda: 0.0)
    with limited.running() as receiver, contextlib.ExitStack() as strangers:
        for _ in range(2):
            stranger = strangers.enter_context(socket.create_connection((LOOPBACK, receiver.port)))
            assert stranger.recv(4) == b"SSH-"
        with socket.create_connection((LOOPBACK, receiver.port)) as third, pytest.raises(ConnectionResetError):
            third.recv(4)
        assert receiver.endpoint.counters.refused == 1
        strangers.close()
        wait_until(lambda: not receiver.endpoint._connections, 60, "the strangers are forgotten")
        receiver.session().close()


def test_channels_beyond_the_ceiling_are_refused(tmp_path: Path) -> None:
    with _limited(tmp_path, EndpointLimits(channels=2)) as receiver, receiver.session() as session:
        pipes = [session.open(), session.open()]
        with pytest.raises(UnavailableError, match="refuses another channel"):
            session.open()
        pipes[0].half_close()
        pipes[0].drained(60)
        session.open()


def test_a_vanished_sender_is_noticed(tmp_path: Path) -> None:
    limits = EndpointLimits(liveness=LivenessTimeouts(quiet=0.5, answer=2))
    with _limited(tmp_path, limits) as receiver, receiver.foreign_client() as client:
        client.process.suspend()
        wait_until(lambda: not receiver.endpoint._connections, 60, "the frozen sender is given up")


def test_an_idle_sender_that_is_alive_stays_connected(tmp_path: Path) -> None:
    limits = EndpointLimits(liveness=LivenessTimeouts(quiet=0.1, answer=2))
    with _limited(tmp_path, limits) as receiver, receiver.session() as session:
        pipe = session.open()
        begun = session._layer.watched.received
        wait_until(lambda: session._layer.watched.received > begun + 1500, 60, "it is asked often enough")
        pipe.send(b"message")
        _prove(session, pipe)


# --- Starting ---


@pytest.mark.parametrize("file", ["host", "authorized_keys"])
def test_an_unusable_file_prevents_logins_until_it_is_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str
) -> None:
    receiver = RunningEndpoint(tmp_path)
    (tmp_path / file).rename(tmp_path / "elsewhere")
    with receiver.running():
        assert "cannot be used" in caplog.text
        assert isinstance(receiver.endpoint.refresh(), NoInputError)
        with pytest.raises((UnavailableError, ProtocolError, PermissionRefusedError)):
            receiver.session()
        (tmp_path / "elsewhere").rename(tmp_path / file)
        receiver.session().close()
        assert receiver.endpoint.refresh() is None
        assert "can be used again" in caplog.text


def test_while_others_can_replace_the_list_of_keys_the_former_list_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = RunningEndpoint(tmp_path)
    with receiver.running():
        receiver.session().close()
        tmp_path.chmod(0o777)
        assert "every user can write to the folder" in str(receiver.endpoint.refresh())
        assert "the former one stays in use" in caplog.text
        tmp_path.chmod(0o755)
        assert receiver.endpoint.refresh() is None
        assert "can be used again" in caplog.text


def test_a_host_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    receiver = RunningEndpoint(tmp_path)
    receiver.host_key.chmod(0o644)
    with receiver.running():
        assert "0644" in str(receiver.endpoint.refresh())
        with pytest.raises((UnavailableError, ProtocolError)):  # a reset may come before the client is connected
            receiver.session()


def test_it_listens_on_every_address_of_its_name(tmp_path: Path) -> None:
    port = free_port()
    files = ("--host-key", str(generate_key(tmp_path / "host")), "--authorized-keys", str(tmp_path / "keys"))
    receiver = Receiver(tmp_path / "server", "--ssh-listen", f"here.example:{port}", *files)
    receiver.prefix = with_addresses(tmp_path, "here.example", ("127.0.0.2", "127.0.0.3"))
    with receiver.running() as process:
        process.wait_for_log("ready: ")  # the SSH end listens after the others
        for address in ("127.0.0.2", "127.0.0.3"):
            with socket.create_connection((address, port)) as sender:
                assert sender.recv(4) == b"SSH-"


def test_an_address_in_use_is_reported() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        endpoint = SshEndpoint(
            LOOPBACK,
            taken.getsockname()[1],
            host_key_file="unused",
            authorized_keys_file="unused",
            allowed=(),
            serve=_forget,
        )
        with pytest.raises(UnavailableError, match="already in use"):
            asyncio.run(endpoint.start())


def test_mistakes_in_the_keys_file_are_logged_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    receiver = RunningEndpoint(tmp_path)
    receiver.authorize('from="192.0.2.1"')
    with caplog.at_level(logging.WARNING), receiver.running():
        assert "authorized_keys line 1: relay does not enforce the option from" in caplog.text
