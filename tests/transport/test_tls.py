import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.certificates import ROUTER, SERVER, Authority, Pair
from harness.collector import Collector
from harness.openssh import Sshd
from harness.openssl import SServer
from harness.ports import LOOPBACK
from harness.waiting import wait_until

from relay.errors import (
    InternalError,
    NoInputError,
    PermissionRefusedError,
    ProtocolError,
    RelayError,
    TemporaryError,
    UnavailableError,
)
from relay.transport import LARGEST_READ
from relay.transport.ssh.session import SshSession
from relay.transport.tcp import TcpTransport
from relay.transport.tls.client import tls_client
from relay.transport.tls.transport import TlsPeer, TlsPipe, TlsTransport
from relay.values.configuration.settings import RemoteLoggingServer

Serve = Callable[[Collector, ssl.SSLSocket], object]
Open = Callable[..., TlsPipe]
TIMEOUT = 30.0


def read_to_the_end(collector: Collector, connection: ssl.SSLSocket) -> None:
    """Read until the close_notify, answer it, and close, as RFC 5425 requires."""
    Collector.read_to_the_end(collector, connection)
    connection.unwrap()


def read_and_never_answer(collector: Collector, connection: ssl.SSLSocket) -> None:
    """Read until the close_notify, and close, as rsyslog with GnuTLS does."""
    Collector.read_to_the_end(collector, connection)


def echo(_: Collector, connection: ssl.SSLSocket) -> None:
    while data := connection.recv(LARGEST_READ):
        connection.sendall(data)
    connection.unwrap()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    return authority.pair(SERVER, LOOPBACK)


@pytest.fixture
def transports() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as undo:
        yield undo


@pytest.fixture
def connect(authority: Authority, transports: contextlib.ExitStack, stop: threading.Event) -> Open:
    """Open a pipe to a port; `ca` defaults to the authority."""

    def go(port: int, timeout: float = TIMEOUT, far: TlsPeer | None = None, **keys: str) -> TlsPipe:
        trust = {} if "fingerprint" in keys else {"ca": str(authority.certificate)}
        server = RemoteLoggingServer(address=LOOPBACK, port=port, transport="tls", **trust | keys)
        inner = TcpTransport(LOOPBACK, port, stop)
        transport = TlsTransport(inner, tls_client(server), far or TlsPeer("collector"), stop, timeout)
        transports.callback(transport.close)
        return transport.open()

    return go


def collector(
    pair: Pair,
    serve: Serve = read_to_the_end,
    *,
    clients: Path | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    window: int = 0,
) -> Collector:
    """A collector with that `pair`; with `clients` it requires a certificate signed by that one."""
    return Collector(serving(pair, serve, clients=clients, version=version), window=window)


def serving(
    pair: Pair,
    serve: Serve = read_to_the_end,
    *,
    clients: Path | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> Callable[[Collector, socket.socket], None]:
    """What such a collector does with a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.maximum_version = version
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED

    def go(server: Collector, connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            serve(server, tls)

    return go


# --- Octets ---


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_is_sent_comes_back_octet_for_octet(connect: Open, server: Pair, version: ssl.TLSVersion) -> None:
    sent = bytes(range(256)) * 4096 * 2  # 2 MiB
    with collector(server, echo, version=version) as far:
        pipe = connect(far.port)
        received = bytearray()
        for at in range(0, len(sent), LARGEST_READ):
            pipe.send(sent[at : at + LARGEST_READ])
            while len(received) < at + LARGEST_READ:
                data = pipe.receive(TIMEOUT)
                assert data
                assert len(data) <= LARGEST_READ
                received += data
        assert received == sent
        assert pipe.negotiated.version == ("TLSv1.2" if version is ssl.TLSVersion.TLSv1_2 else "TLSv1.3")


def test_silence_is_not_an_end(connect: Open, server: Pair) -> None:
    with collector(server) as far:
        pipe = connect(far.port)
        assert pipe.receive(0.01) is None
        assert not pipe.ended


def test_a_drained_stream_was_read_to_its_end(connect: Open, server: Pair) -> None:
    with collector(server) as far:
        pipe = connect(far.port)
        pipe.send(b"x" * 100_000)
        pipe.half_close()
        pipe.drained(TIMEOUT)
        assert far.received == b"x" * 100_000
        assert pipe.answered


def test_nothing_is_sent_after_the_half_close(connect: Open, server: Pair) -> None:
    with collector(server) as far:
        pipe = connect(far.port)
        pipe.half_close()
        with pytest.raises(InternalError):
            pipe.send(b"x")


def test_only_a_half_closed_stream_is_drained(connect: Open, server: Pair) -> None:
    with collector(server) as far, pytest.raises(InternalError):
        connect(far.port).drained(TIMEOUT)


def test_data_that_arrives_with_the_end_of_the_handshake_is_read(connect: Open, server: Pair) -> None:
    """With TLS 1.2 the server ends the handshake, so data can follow directly."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def serve(_: Collector, connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while tls.version() is None or outgoing.pending:
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                tls.write(b"welcome")
            connection.sendall(outgoing.read())
            incoming.write(connection.recv(LARGEST_READ))

    with Collector(serve) as far:
        assert connect(far.port).receive(TIMEOUT) == b"welcome"


@pytest.mark.parametrize("command", [b"K", b"k"])
def test_a_collector_can_change_its_keys(connect: Open, server: Pair, tmp_path: Path, command: bytes) -> None:
    """OpenSSL's s_server: K changes the keys of both sides (RFC 8446 section 4.6.3), k only its own."""
    with SServer(server, tmp_path / "said") as far:
        pipe = connect(far.port)
        for number in range(3):
            pipe.send(b"message %d\n" % number)
            far.wait_for(b"message %d" % number)
            far.type(command + b"\n")
            far.type(b"answer %d\n" % number)
            assert pipe.receive(TIMEOUT) == b"answer %d\n" % number
        pipe.half_close()
        pipe.drained(TIMEOUT)
        assert pipe.answered


# --- The proof ---


def test_a_collector_that_never_answers_a_close_is_drained_by_its_end(connect: Open, server: Pair) -> None:
    reports: list[str] = []
    with collector(server, read_and_never_answer) as far:
        pipe = connect(far.port, far=TlsPeer("collector", reports.append))
        pipe.send(b"a message")
        pipe.half_close()
        pipe.drained(TIMEOUT)
        assert (far.received, pipe.answered) == (b"a message", False)
        assert far.connections == 2  # the second found out that it never answers
        (report,) = reports
        assert report.startswith("collector never answers TLS's close_notify, so its end of file is the proof")


def test_a_killed_collector_is_not_drained_although_its_end_arrives(connect: Open, server: Pair) -> None:
    """The first stream ends like a killed process's; the next one shows that the collector normally answers."""

    def die_at_first(far: Collector, connection: ssl.SSLSocket) -> None:
        (read_and_never_answer if far.served == 1 else read_to_the_end)(far, connection)

    with collector(server, die_at_first) as far:
        pipe = connect(far.port)
        pipe.send(b"a message")
        pipe.half_close()
        with pytest.raises(UnavailableError, match="without TLS's close_notify"):
            pipe.drained(TIMEOUT)


def test_a_vanished_collector_is_not_drained(connect: Open, server: Pair) -> None:
    def die(far: Collector, connection: ssl.SSLSocket) -> None:
        far.stop_listening()
        read_and_never_answer(far, connection)

    with collector(server, die) as far:
        pipe = connect(far.port)
        pipe.half_close()
        with pytest.raises(UnavailableError, match="refused"):
            pipe.drained(TIMEOUT)


def test_a_collector_that_closed_before_relay_proves_nothing(connect: Open, server: Pair) -> None:
    with collector(server, lambda _, connection: connection.unwrap()) as far:
        pipe = connect(far.port)
        wait_until(lambda: pipe.ended, TIMEOUT, "the end")
        with pytest.raises(UnavailableError):
            pipe.half_close()


@pytest.mark.parametrize(
    ("after", "message"),
    [("close", "reset|broke off"), ("half-close", "before it had everything"), ("stay", "not closed")],
)
def test_a_close_notify_that_is_not_an_answer_proves_nothing(
    connect: Open, server: Pair, after: str, message: str
) -> None:
    """The collector sends it before it has read anything; TLS itself cannot distinguish it from an answer."""
    half_closed, notified, done = threading.Event(), threading.Event(), threading.Event()

    def serve(_: Collector, connection: ssl.SSLSocket) -> None:
        half_closed.wait(TIMEOUT)
        with contextlib.suppress(ssl.SSLError):  # what comes instead of an answer to it
            connection.unwrap()
        notified.set()
        if after == "half-close":
            socket.socket.shutdown(connection, socket.SHUT_WR)
        if after != "close":
            done.wait(TIMEOUT)

    with collector(server, serve, window=4096) as far:
        pipe = connect(far.port)
        pipe.send(b"x" * 60_000)
        pipe.half_close()
        half_closed.set()
        assert notified.wait(TIMEOUT)
        with pytest.raises(RelayError, match=message):
            pipe.drained(1.5 if after == "stay" else TIMEOUT)
        assert pipe.answered
        done.set()


def test_a_collector_that_answers_and_waits_for_relays_end_is_drained(connect: Open, server: Pair) -> None:
    ended = []

    def serve(far: Collector, connection: ssl.SSLSocket) -> None:
        Collector.read_to_the_end(far, connection)
        with connection.unwrap() as plain:
            plain.settimeout(TIMEOUT)
            ended.append(plain.recv(1))

    with collector(server, serve) as far:
        pipe = connect(far.port)
        pipe.send(b"a message")
        pipe.half_close()
        pipe.drained(TIMEOUT)
        assert (far.received, ended) == (b"a message", [b""])


def test_a_collector_that_has_answered_once_must_always_answer(connect: Open, server: Pair) -> None:
    """Otherwise an attacker who cuts connections off could make a collector look like one that never answers."""

    def answer_at_first(far: Collector, connection: ssl.SSLSocket) -> None:
        (read_to_the_end if far.served == 1 else read_and_never_answer)(far, connection)

    far_end = TlsPeer("collector")
    with collector(server, answer_at_first) as far:
        first = connect(far.port, far=far_end)
        first.half_close()
        first.drained(TIMEOUT)
        later = connect(far.port, far=far_end)  # by another transport
        later.half_close()
        with pytest.raises(UnavailableError, match="which it normally sends"):
            later.drained(TIMEOUT)
        assert far.connections == 2


def test_a_collector_that_does_not_close_in_time_is_still_open(connect: Open, server: Pair) -> None:
    done = threading.Event()
    with collector(server, lambda *_: done.wait(TIMEOUT)) as far:
        pipe = connect(far.port)
        pipe.half_close()
        with pytest.raises(TemporaryError):
            pipe.drained(0.05)
        done.set()


# --- Verification of the server ---


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises(PermissionRefusedError) as error:
        attempt()
    return str(error.value)


def nothing_was_sent(far: Collector) -> bool:
    return far.connections == 1 and not far.received


def test_a_certificate_for_another_name_is_rejected(connect: Open, authority: Authority) -> None:
    with collector(authority.pair("other.example")) as far:
        refused = refusal(lambda: connect(far.port))
        assert f'its certificate is for "other.example" and not for "{LOOPBACK}"' in refused
        assert 'set `server-name = "other.example"`' in refused
        assert nothing_was_sent(far)


def test_the_configured_server_name_is_verified(connect: Open, authority: Authority) -> None:
    with collector(authority.pair("named.example")) as far:
        assert connect(far.port, **{"server-name": "named.example"}).receive(0.01) is None


def test_an_unknown_signer_is_rejected(connect: Open, tmp_path: Path) -> None:
    with collector(Authority(tmp_path, "other").pair(SERVER, LOOPBACK)) as far:
        assert "set `ca` to the file" in refusal(lambda: connect(far.port))
        assert nothing_was_sent(far)


def test_an_expired_certificate_is_rejected(connect: Open, authority: Authority) -> None:
    with collector(authority.pair("late.example", LOOPBACK, days=-1)) as far:
        assert "its certificate expired on 20" in refusal(lambda: connect(far.port))
        assert nothing_was_sent(far)


def test_without_a_ca_this_machines_authorities_apply(connect: Open, server: Pair) -> None:
    with collector(server) as far:
        refused = refusal(lambda: connect(far.port, ca=""))
        assert 'is signed by "authority", which this machine\'s own list of authorities does not have' in refused


def test_a_fingerprint_suffices(connect: Open, tmp_path: Path) -> None:
    pair = Authority(tmp_path, "unknown").pair("unnamed.example", days=-1)
    with collector(pair) as far:
        assert connect(far.port, fingerprint=pair.fingerprint).receive(0.01) is None


def test_another_fingerprint_is_rejected(connect: Open, server: Pair, authority: Authority) -> None:
    other = authority.pair("pinned.example", LOOPBACK)
    with collector(server) as far:
        refused = refusal(lambda: connect(far.port, fingerprint=other.fingerprint))
        assert server.fingerprint in refused
        assert other.fingerprint in refused
        assert nothing_was_sent(far)


def test_a_fingerprint_and_a_signer_must_both_be_right(connect: Open, server: Pair, tmp_path: Path) -> None:
    other = str(Authority(tmp_path, "wrong").certificate)
    with collector(server) as far:
        assert "which `ca` does not have" in refusal(
            lambda: connect(far.port, ca=other, fingerprint=server.fingerprint)
        )


# --- relay's own certificate ---


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_relay_presents_its_certificate(
    connect: Open, authority: Authority, server: Pair, version: ssl.TLSVersion
) -> None:
    own = authority.pair(ROUTER)
    seen = []

    def look(far: Collector, connection: ssl.SSLSocket) -> None:
        seen.append(connection.getpeercert())
        read_to_the_end(far, connection)

    with collector(server, look, clients=authority.certificate, version=version) as far:
        pipe = connect(far.port, certificate=str(own.certificate), **{"private-key": str(own.key)})
        pipe.half_close()
        pipe.drained(TIMEOUT)
    (certificate,) = seen
    assert certificate is not None
    assert certificate["subjectAltName"] == (("DNS", ROUTER),)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("certificate", ["none", "of another signer"])
def test_a_refused_client_gets_no_proof(
    connect: Open, authority: Authority, server: Pair, tmp_path: Path, version: ssl.TLSVersion, certificate: str
) -> None:
    """With TLS 1.3 the handshake succeeds, and the refusal follows."""
    own = Authority(tmp_path, "stranger").pair(ROUTER)
    keys = {} if certificate == "none" else {"certificate": str(own.certificate), "private-key": str(own.key)}

    def attempt(port: int) -> None:
        pipe = connect(port, **keys)
        pipe.send(b"a message")
        pipe.half_close()
        pipe.drained(TIMEOUT)

    with collector(server, clients=authority.certificate, version=version) as far:
        with pytest.raises(RelayError) as error:
            attempt(far.port)
        assert not far.received
    assert isinstance(error.value, PermissionRefusedError | ProtocolError)
    assert "alert" in str(error.value)


# --- Files ---


def test_certificate_and_key_may_be_in_one_file(
    connect: Open, authority: Authority, server: Pair, tmp_path: Path
) -> None:
    own = authority.pair(ROUTER)
    both = tmp_path / "both.pem"
    both.touch(mode=0o600)
    both.write_bytes(own.certificate.read_bytes() + own.key.read_bytes())
    with collector(server, clients=authority.certificate) as far:
        pipe = connect(far.port, certificate=str(both))
        pipe.half_close()
        pipe.drained(TIMEOUT)


def test_certificates_may_be_in_the_configuration(connect: Open, authority: Authority, server: Pair) -> None:
    own = authority.pair(ROUTER)
    texts = {"ca": authority.certificate.read_text(), "certificate": own.certificate.read_text()}
    with collector(server, clients=authority.certificate) as far:
        pipe = connect(far.port, **texts, **{"private-key": str(own.key)})
        pipe.half_close()
        pipe.drained(TIMEOUT)


@pytest.mark.parametrize(
    ("contents", "mode", "error", "message"),
    [
        (None, 0o600, NoInputError, "no such file"),
        (b"nothing", 0o600, NoInputError, "no readable private key"),
        (b"key", 0o644, PermissionRefusedError, "lets others use it"),
        (b"other", 0o600, PermissionRefusedError, "does not belong to certificate "),
    ],
)
def test_a_bad_private_key_is_reported(
    authority: Authority, tmp_path: Path, contents: bytes | None, mode: int, error: type[RelayError], message: str
) -> None:
    own, other = authority.pair(ROUTER), authority.pair("another.example")
    key = tmp_path / "key"
    if contents is not None:
        written = {b"key": own.key.read_bytes(), b"other": other.key.read_bytes()}
        key.write_bytes(written.get(contents, contents))
        key.chmod(mode)
    server = RemoteLoggingServer(transport="tls", certificate=str(own.certificate), private_key=str(key))
    with pytest.raises(error, match=message):
        tls_client(server)


@pytest.mark.parametrize("key", ["ca", "certificate"])
@pytest.mark.parametrize("contents", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_bad_certificate_is_reported(tmp_path: Path, key: str, contents: bytes | None) -> None:
    file = tmp_path / "certificate"
    if contents is not None:
        file.write_bytes(contents)
    with pytest.raises(NoInputError, match=f"certificate {file}: "):
        tls_client(RemoteLoggingServer(transport="tls", **{key: str(file)}))


@pytest.mark.parametrize(
    ("alert", "error", "message"),
    [
        (0, ProtocolError, "ended the TLS handshake"),
        (40, ProtocolError, "alert: handshake failure"),
        (48, PermissionRefusedError, "refuses relay's certificate (TLS alert: unknown ca)"),
        (112, ProtocolError, "alert: unrecognized name"),
        (116, PermissionRefusedError, "requires a client certificate, and none is configured"),
        (255, ProtocolError, "ended the TLS handshake"),
    ],
)
def test_an_alert_is_reported_in_words(connect: Open, alert: int, error: type[RelayError], message: str) -> None:
    """RFC 8446 section 6; the alert is fatal, and arrives instead of an answer."""

    def serve(_: Collector, connection: socket.socket) -> None:
        connection.recv(LARGEST_READ)
        connection.sendall(b"\x15\x03\x03\x00\x02\x02" + bytes([alert]))
        connection.recv(LARGEST_READ)

    with Collector(serve) as far, pytest.raises(error, match=re.escape(message)):
        connect(far.port)


# --- Servers without TLS ---


def answer_in_clear(_: Collector, connection: socket.socket) -> None:
    connection.sendall(b"220 mail.example ESMTP\r\n")
    connection.recv(LARGEST_READ)


@pytest.mark.parametrize(
    ("serve", "timeout", "message"),
    [
        (answer_in_clear, TIMEOUT, "its answer is not TLS 1.2 or 1.3"),
        (lambda _, connection: connection.recv(1), TIMEOUT, "ended the TLS handshake|reset"),
        (lambda *_: threading.Event().wait(TIMEOUT), 0.2, "no answer to the TLS handshake within 0.2 s"),
    ],
)
def test_a_server_without_tls_is_reported(
    connect: Open, serve: Callable[[Collector, socket.socket], object], timeout: float, message: str
) -> None:
    with Collector(serve) as far, pytest.raises(RelayError, match=message):
        connect(far.port, timeout)


def test_an_old_version_is_rejected(connect: Open, server: Pair) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1

    def serve(_: Collector, connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True)

    with Collector(serve) as far, pytest.raises(ProtocolError):
        connect(far.port)


def test_a_stop_ends_the_handshake(connect: Open, stop: threading.Event) -> None:
    begun = threading.Event()

    def serve(_: Collector, connection: socket.socket) -> None:
        begun.set()
        stop.set()
        connection.recv(LARGEST_READ)
        connection.recv(LARGEST_READ)

    with Collector(serve) as far, pytest.raises(TemporaryError):
        connect(far.port)
    assert begun.is_set()


def test_a_close_ends_the_handshake(authority: Authority, stop: threading.Event) -> None:
    def serve(_: Collector, connection: socket.socket) -> None:
        connection.recv(1)
        transport.close()
        threading.Event().wait(TIMEOUT)

    with Collector(serve) as silent:
        keys = RemoteLoggingServer(address=LOOPBACK, transport="tls", ca=str(authority.certificate))
        inner = TcpTransport(LOOPBACK, silent.port, stop)
        transport = TlsTransport(inner, tls_client(keys), TlsPeer("collector"), stop, 10 * TIMEOUT)
        with pytest.raises(UnavailableError, match="the connection is closed"):
            transport.open()


def test_a_close_ends_the_wait_for_a_refusal(connect: Open, server: Pair) -> None:
    """After a slow handshake the wait takes a while; here it is longer than it ever is in practice."""
    with collector(server) as far:
        pipe = connect(far.port)
        begun = time.monotonic()
        pipe._settled = begun + 10 * TIMEOUT
        threading.Timer(0.1, pipe.close).start()
        with pytest.raises(UnavailableError):
            pipe.half_close()
        assert time.monotonic() - begun < TIMEOUT


def test_the_wait_for_a_refusal_is_twice_as_long_as_the_handshake(connect: Open, server: Pair) -> None:
    slow = 0.2

    def begin_late(far: Collector, connection: socket.socket) -> None:
        connection.recv(1, socket.MSG_PEEK)
        threading.Event().wait(slow)
        reads(far, connection)

    reads = serving(server)
    with Collector(begin_late) as far:
        begun = time.monotonic()
        connect(far.port).half_close()
        assert time.monotonic() - begun >= 3 * slow


# --- Through SSH ---


def test_tls_works_through_a_port_forward(
    authority: Authority, server: Pair, sshd: Sshd, stop: threading.Event
) -> None:
    with collector(server) as far, SshSession.connect(sshd.forwarding(far.port), stop) as session:
        keys = RemoteLoggingServer(transport="tls", ca=str(authority.certificate), server_name=SERVER)
        pipe = TlsTransport(session, tls_client(keys), TlsPeer("collector"), stop).open()
        pipe.send(b"a message")
        pipe.half_close()
        pipe.drained(TIMEOUT)
        assert far.received == b"a message"
        assert not pipe.local
