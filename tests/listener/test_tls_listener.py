"""The TLS listener with OpenSSL's client, and a spool whose fsync the test controls."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from harness.certificates import ROUTER, SERVER, Authority, Pair
from harness.held_spool import DEADLINE, HeldSpool
from harness.waiting import until

from relay.errors import NoInputError, PermissionRefusedError
from relay.listener.conversation import ALL
from relay.listener.reception.listener_counters import ListenerCounters
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.tls import ServerIdentity, TlsListener, server_context
from relay.syslog.framing import octet_counted
from relay.syslog.relp_frame import encode
from relay.values.address import Address
from relay.values.configuration.receiver_settings import ReceiverTls

ONE = b"<1>one"
ANYWHERE = Address("127.0.0.1", 0)


def settings(authority: Authority, **keys: str) -> ReceiverTls:
    pair = authority.pair(SERVER, "127.0.0.1")
    files = {"certificate": str(pair.certificate), "private-key": str(pair.key)}
    return ReceiverTls.model_validate({"listen": "127.0.0.1:0", **files, **keys})


Scenario = Callable[[TlsListener, HeldSpool], Awaitable[None]]


def run(chosen: ReceiverTls, scenario: Scenario, handshake_timeout: float = DEADLINE) -> ListenerCounters:
    """Run the scenario with a listener, and return the listener's counters."""

    async def listen() -> ListenerCounters:
        spool = HeldSpool()
        terms = StreamTerms(dialects=ALL)
        identity = ServerIdentity(chosen)
        async with TlsListener(
            ANYWHERE, identity, spool.submit, terms=terms, handshake_timeout=handshake_timeout
        ) as listener:
            await scenario(listener, spool)
            await until(lambda: not listener.counters.open)
            return listener.counters

    return asyncio.run(listen())


def client(authority: Authority, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = authority.client()
    context.maximum_version = version
    return context


def connect(listener: TlsListener, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(listener.address, DEADLINE)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_answer_to_the_close_comes_only_after_the_sync(authority: Authority, version: ssl.TLSVersion) -> None:
    async def scenario(listener: TlsListener, spool: HeldSpool) -> None:
        sender = await asyncio.to_thread(connect, listener, client(authority, version))
        sender.sendall(octet_counted(ONE))
        closed = asyncio.create_task(asyncio.to_thread(sender.unwrap))
        await until(lambda: spool.messages == [ONE])
        done, _ = await asyncio.wait([closed], timeout=0.2)
        assert not done
        spool.sync()
        with await closed:  # what is left is the plain socket
            pass

    counters = run(settings(authority), scenario)
    assert (counters.messages, counters.lost, counters.framing_errors) == (1, 0, 0)


def test_every_octet_of_a_large_stream_is_kept(authority: Authority) -> None:
    messages = [b"<1>" + bytes([number % 256]) * (number * 977 % 60_000) for number in range(200)]

    def send(sender: ssl.SSLSocket) -> None:
        sender.sendall(b"".join(map(octet_counted, messages)))
        sender.unwrap().close()

    async def scenario(listener: TlsListener, spool: HeldSpool) -> None:
        sent = asyncio.create_task(
            asyncio.to_thread(send, await asyncio.to_thread(connect, listener, client(authority)))
        )
        while not sent.done():
            await until(lambda: spool.held or sent.done())
            spool.sync()
        await sent
        assert spool.messages == messages

    run(settings(authority), scenario)


def test_a_protocol_that_answers_is_answered(authority: Authority) -> None:
    opening = encode(1, b"open", b"relp_version=0\nrelp_software=test\ncommands=syslog")

    async def scenario(listener: TlsListener, spool: HeldSpool) -> None:
        sender = await asyncio.to_thread(connect, listener, client(authority))
        sender.sendall(opening)
        assert (await asyncio.to_thread(sender.recv, 1000)).startswith(b"1 rsp ")
        sender.sendall(encode(2, b"syslog", ONE))
        await until(lambda: spool.messages == [ONE])
        spool.sync()
        assert (await asyncio.to_thread(sender.recv, 1000)).startswith(b"2 rsp ")
        sender.close()

    run(settings(authority), scenario)


def test_a_harmed_record_is_answered_by_an_alert_and_earlier_messages_are_kept(authority: Authority) -> None:
    """The answers to earlier messages can no longer be written; asyncio must not report that as a bug."""
    opening = encode(1, b"open", b"relp_version=0\nrelp_software=test\ncommands=syslog")
    bugs: list[object] = []

    async def scenario(listener: TlsListener, spool: HeldSpool) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
        sender = await asyncio.to_thread(connect, listener, client(authority))
        sender.sendall(opening + encode(2, b"syslog", ONE))
        await until(lambda: spool.messages == [ONE])
        with socket.socket(fileno=os.dup(sender.fileno())) as beneath:
            assert (await asyncio.to_thread(sender.recv, 1000)).startswith(b"1 rsp ")
            beneath.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            beneath.settimeout(DEADLINE)
            assert await asyncio.to_thread(beneath.recv, 1000)  # the alert
            spool.sync()
            await until(lambda: not listener.counters.open)
        sender.close()
        gc.collect()  # a future whose exception was never retrieved reports that when it is deleted

    counters = run(settings(authority), scenario)
    assert (counters.messages, counters.framing_errors) == (1, 1)
    assert bugs == []


def test_a_stream_that_is_cut_off_is_lost_and_its_messages_are_kept(authority: Authority) -> None:
    async def scenario(listener: TlsListener, spool: HeldSpool) -> None:
        sender = await asyncio.to_thread(connect, listener, client(authority))
        sender.sendall(octet_counted(ONE))
        await until(lambda: spool.messages == [ONE])
        socket.socket.shutdown(sender, socket.SHUT_WR)  # an end of file without a close_notify; `close` would reset
        spool.sync()
        await until(lambda: not listener.counters.open)
        sender.close()

    counters = run(settings(authority), scenario)
    assert (counters.messages, counters.lost) == (1, 1)


def test_a_sender_without_a_required_certificate_is_rejected(authority: Authority) -> None:
    async def scenario(listener: TlsListener, spool: HeldSpool) -> None:
        sender = await asyncio.to_thread(connect, listener, client(authority))
        with contextlib.suppress(OSError):  # refused already
            sender.sendall(octet_counted(ONE))
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.to_thread(sender.recv, 1)
        sender.close()
        assert spool.messages == []

    counters = run(settings(authority, ca=str(authority.certificate)), scenario)
    assert (counters.messages, counters.framing_errors) == (0, 1)


FAULTS: dict[str, tuple[Callable[[Authority], Pair | None], str]] = {
    "none": (lambda _: None, "the sender has no certificate, but `ca` requires one"),
    "expired": (
        lambda authority: authority.pair(ROUTER, days=-1),
        "the sender's certificate has expired; this machine's",
    ),
    "not yet valid": (
        lambda authority: authority.pair(ROUTER, begins=2),
        "the sender's certificate is not valid yet; this",
    ),
    "for servers": (
        lambda authority: authority.pair(ROUTER, usage="serverAuth"),
        "the sender's certificate is not for clients; have it issued with clientAuth",
    ),
    "by a stranger": (
        lambda authority: Authority(authority.certificate.parent / "stranger", "stranger").pair(ROUTER),
        "the sender's certificate is not signed by a certificate in `ca`; set `ca` to",
    ),
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_senders_certificate_has_its_own_cause(
    authority: Authority, caplog: pytest.LogCaptureFixture, fault: str, version: ssl.TLSVersion
) -> None:
    pair, expected = FAULTS[fault]
    own = pair(authority)

    async def scenario(listener: TlsListener, spool: HeldSpool) -> None:
        context = client(authority, version)
        if own is not None:
            context.load_cert_chain(own.certificate, own.key)

        def send() -> None:
            with pytest.raises((ssl.SSLError, ConnectionResetError)), connect(listener, context) as sender:
                sender.recv(1)

        await asyncio.to_thread(send)
        await until(lambda: "aborted" in caplog.text)
        assert spool.messages == []

    run(settings(authority, ca=str(authority.certificate)), scenario)
    assert f"TLS handshake: {expected}" in caplog.text


def test_a_sender_that_does_not_trust_the_receiver_has_an_error_of_its_own(
    authority: Authority, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async def scenario(listener: TlsListener, _: HeldSpool) -> None:
        stranger = client(Authority(tmp_path / "stranger", "stranger"))
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(connect, listener, stranger)
        await until(lambda: "aborted" in caplog.text)

    run(settings(authority), scenario)
    cause = "the sender refuses relay's certificate (TLS alert: unknown ca)"
    assert f"{cause}; the sender must trust the signer" in caplog.text


def test_an_intermediate_certificate_is_trusted_by_itself(authority: Authority) -> None:
    between = Authority(authority.certificate.parent / "between", "between", authority)
    own = between.pair(ROUTER)

    async def scenario(listener: TlsListener, _: HeldSpool) -> None:
        context = client(authority)
        context.load_cert_chain(own.certificate, own.key)
        sender = await asyncio.to_thread(connect, listener, context)
        (await asyncio.to_thread(sender.unwrap)).close()

    assert run(settings(authority, ca=str(between.certificate)), scenario).framing_errors == 0


def test_a_sender_with_a_trusted_certificate_is_accepted(authority: Authority) -> None:
    own = authority.pair(ROUTER)

    async def scenario(listener: TlsListener, spool: HeldSpool) -> None:
        context = client(authority)
        context.load_cert_chain(own.certificate, own.key)
        sender = await asyncio.to_thread(connect, listener, context)
        sender.sendall(octet_counted(ONE))
        await until(lambda: spool.messages == [ONE])
        spool.sync()
        (await asyncio.to_thread(sender.unwrap)).close()

    assert run(settings(authority, ca=str(authority.certificate)), scenario).messages == 1


@pytest.mark.parametrize("octets", [octet_counted(ONE), b"GET / HTTP/1.1\r\n\r\n"])
def test_octets_that_are_not_tls_are_rejected(authority: Authority, octets: bytes) -> None:
    async def scenario(listener: TlsListener, spool: HeldSpool) -> None:
        reader, writer = await asyncio.open_connection(*listener.address)
        writer.write(octets)
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
        writer.transport.abort()
        assert spool.messages == []

    counters = run(settings(authority), scenario)
    assert counters.framing_errors == 1


def test_a_sender_that_never_starts_the_handshake_is_disconnected(authority: Authority) -> None:
    async def scenario(listener: TlsListener, _: HeldSpool) -> None:
        reader, writer = await asyncio.open_connection(*listener.address)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        writer.transport.abort()

    assert run(settings(authority), scenario, handshake_timeout=0.1).framing_errors == 1


def shown(listener: TlsListener, authority: Authority) -> bytes | None:
    """The certificate that the listener shows."""
    with connect(listener, client(authority)) as sender:
        return sender.getpeercert(binary_form=True)


def test_a_renewed_certificate_is_shown_without_a_restart(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = settings(authority)
    key = Path(chosen.private_key)

    async def scenario(listener: TlsListener, _: HeldSpool) -> None:
        first = await asyncio.to_thread(shown, listener, authority)
        await asyncio.to_thread(key.unlink)  # as it is amid a renewal
        assert await asyncio.to_thread(shown, listener, authority) == first
        assert "the former one stays in use" in caplog.text
        assert "relay key generate" not in caplog.text  # which makes keys for SSH
        authority.pair(SERVER, "127.0.0.1", days=91)
        assert await asyncio.to_thread(shown, listener, authority) not in {first, None}

    run(chosen, scenario)


def test_bad_files_are_reported(authority: Authority) -> None:
    with pytest.raises(NoInputError, match="no such file"):
        server_context(settings(authority, certificate="/nonexistent"))
    with pytest.raises(NoInputError, match="no such file"):
        server_context(settings(authority, ca="/nonexistent"))
    other = authority.pair("other.example")
    with pytest.raises(PermissionRefusedError, match="does not belong"):
        server_context(settings(authority, **{"private-key": str(other.key)}))
    other.key.chmod(0o644)
    with pytest.raises(PermissionRefusedError, match="lets others use it"):
        server_context(settings(authority, **{"private-key": str(other.key)}))
