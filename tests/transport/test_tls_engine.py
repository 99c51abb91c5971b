"""Two TLS engines in memory: one reads what the other writes, in any cut of the ciphertext, and reports how it ends."""

import ssl

import pytest
from harness.certificates import SERVER, Authority

from relay.transport.tls.engine import TlsEngine, TlsState, tls_context

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


class Connection:
    """A client and a server; `piece` octets of ciphertext are passed on at a time."""

    def __init__(self, authority: Authority, version: ssl.TLSVersion = VERSIONS[1], piece: int = 1 << 20) -> None:
        pair = authority.pair(SERVER)
        trusting, serving = tls_context(ssl.PROTOCOL_TLS_CLIENT), tls_context(ssl.PROTOCOL_TLS_SERVER)
        trusting.load_verify_locations(authority.certificate)
        serving.load_cert_chain(pair.certificate, pair.key)
        serving.maximum_version = version
        self.certificate = pair.certificate.read_text()
        self.client, self.server = TlsEngine(trusting, SERVER), TlsEngine(serving)
        self._piece = piece

    def agree(self) -> "Connection":
        agreed = {self.client: False, self.server: False}
        while not all(agreed.values()):
            for one, other in ((self.client, self.server), (self.server, self.client)):
                agreed[one] = one.handshake()
                self.carry(one, other)
        return self

    def carry(self, sender: TlsEngine, receiver: TlsEngine) -> None:
        octets = sender.ciphertext()
        for start in range(0, len(octets), self._piece):
            receiver.feed(octets[start : start + self._piece])

    def read(self) -> tuple[bytes, TlsState]:
        """Everything that the server can read now, and why there is no more."""
        plaintext = b""
        while isinstance(event := self.server.read(), bytes):
            assert event
            plaintext += event
        return plaintext, event


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_plaintext_arrives_whole_in_any_cut_and_the_close_comes_last(
    authority: Authority, version: ssl.TLSVersion, piece: int
) -> None:
    sent = bytes(range(256)) * 200  # several records
    connection = Connection(authority, version, piece).agree()
    connection.client.write(sent)
    connection.carry(connection.client, connection.server)
    assert connection.read() == (sent, TlsState.NEED_DATA)
    connection.client.close()
    connection.carry(connection.client, connection.server)
    assert [connection.server.read() for _ in range(2)] == [TlsState.CLOSED] * 2


def test_a_record_cut_short_needs_its_rest(authority: Authority) -> None:
    connection = Connection(authority).agree()
    connection.client.write(b"a message")
    octets = connection.client.ciphertext()
    connection.server.feed(octets[:-1])
    assert connection.read() == (b"", TlsState.NEED_DATA)
    connection.server.feed(octets[-1:])
    assert connection.read() == (b"a message", TlsState.NEED_DATA)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", [0, 1], ids=["between two records", "inside a record"])
def test_an_end_without_a_close_notify_is_a_cut_and_what_came_before_is_read(
    authority: Authority, version: ssl.TLSVersion, cut: int
) -> None:
    connection = Connection(authority, version).agree()
    connection.client.write(b"a message")
    connection.carry(connection.client, connection.server)
    if cut:
        connection.client.close()
        connection.server.feed(connection.client.ciphertext()[:-cut])
    connection.server.feed(b"")
    assert connection.read() == (b"a message", TlsState.CUT_OFF)
    assert connection.server.read() is TlsState.CUT_OFF


def test_a_close_notify_and_the_end_behind_it_are_a_close(authority: Authority) -> None:
    connection = Connection(authority).agree()
    connection.client.write(b"a message")
    connection.client.close()
    connection.carry(connection.client, connection.server)
    connection.server.feed(b"")
    assert connection.read() == (b"a message", TlsState.CLOSED)


class _Failing:
    """An ssl.SSLObject on which every read fails."""

    def __init__(self, error: ssl.SSLError) -> None:
        self._error = error

    def read(self, _size: int) -> bytes:
        raise self._error


def _with_reason(error: ssl.SSLError, reason: str) -> ssl.SSLError:
    error.reason = reason
    return error


@pytest.mark.parametrize(
    "error",
    [ssl.SSLEOFError(8, "EOF"), _with_reason(ssl.SSLError(1, "EOF"), "UNEXPECTED_EOF_WHILE_READING")],
    ids=["SSLEOFError", "Python 3.11.2"],
)
def test_every_version_of_python_reports_a_cut(authority: Authority, error: ssl.SSLError) -> None:
    """Python 3.11.2 (Debian 12) raises a plain SSLError where later versions raise SSLEOFError."""
    engine = Connection(authority).server
    engine._tls = _Failing(error)  # type: ignore[assignment]
    assert engine.read() is TlsState.CUT_OFF


def test_a_harmed_record_is_an_error_and_an_alert_is_ready(authority: Authority) -> None:
    connection = Connection(authority).agree()
    connection.server.ciphertext()
    connection.server.feed(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    with pytest.raises(ssl.SSLError):
        connection.server.read()
    assert connection.server.ciphertext()


def test_a_context_reports_cuts_whatever_the_machines_openssl_settings_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def ignore_cuts(context: ssl.SSLContext, _protocol: int) -> None:
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF

    monkeypatch.setattr(ssl.SSLContext, "__init__", ignore_cuts)
    assert ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).options & ssl.OP_IGNORE_UNEXPECTED_EOF
    assert not tls_context(ssl.PROTOCOL_TLS_SERVER).options & ssl.OP_IGNORE_UNEXPECTED_EOF


def test_the_client_knows_what_was_agreed_and_which_chain_the_server_sent(authority: Authority) -> None:
    connection = Connection(authority).agree()
    client, server = connection.client, connection.server
    assert (client.version, server.version) == ("TLSv1.3", "TLSv1.3")
    assert client.cipher == server.cipher != ""
    assert client.peer_certificate == ssl.PEM_cert_to_DER_cert(connection.certificate)
    (own, *_) = client.peer_chain()
    assert own.subject.rfc4514_string() == f"CN={SERVER}"
    assert server.peer_certificate == b""
    assert server.peer_chain() == []
