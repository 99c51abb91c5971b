"""What comes before a stream's first frame: other protocols, and PROXY headers of load balancers; over real sockets."""

import asyncio
import logging
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest
from harness.certificates import SERVER, Authority
from harness.held_spool import PromptSpool
from harness.proxy_headers import addresses, version_2
from harness.waiting import until
from listener.test_tcp_listener import connected, listening, run

from relay.listener.conversation import ALL
from relay.listener.reception.aside import LARGEST, MOST, Aside
from relay.listener.reception.listener_counters import ListenerCounters
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.tls import ServerIdentity, TlsListener
from relay.syslog.other_protocol import PROXY_SIGNATURE
from relay.values.address import Address, is_in
from relay.values.configuration.receiver_settings import ReceiverTls

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 3000
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PROXIES = (ip_network("127.0.0.0/8"),)
BEHIND = Address("192.0.2.7", 56324)
V1 = b"PROXY TCP4 192.0.2.7 192.0.2.8 56324 514\r\n"
V2 = version_2(1, 0x11, addresses("192.0.2.7", "192.0.2.8"))


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "relay")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(("octets", "name"), [(HELLO, "TLS"), (REQUEST, "HTTP"), (V2 + b"<14>x\n", "a PROXY header")])
def test_another_protocol_is_named_and_kept_aside_once_a_minute_and_always_reset(
    octets: bytes, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / ".relay" / "aside"

    async def scenario() -> None:
        spool = PromptSpool()
        terms = StreamTerms(dialects=ALL, aside=Aside(str(folder)))
        async with listening(spool, terms) as listener:
            for _ in range(3):  # as a health check does every two seconds
                async with connected(listener) as sender:
                    sender.send(octets)
                    assert await sender.ending() == "reset"
            await until(lambda: listener.counters.open == 0)
            assert listener.counters.framing_errors == 3
            assert not spool.batches

    run(scenario)
    (kept,) = folder.iterdir()
    assert kept.name.endswith("Z-127.0.0.1")
    assert kept.read_bytes() == octets[:LARGEST]
    logged, further = warnings(caplog)
    assert f"which is {name}" in logged
    assert "tcp://127.0.0.1:" in logged
    assert further == "similar lines of one minute are not logged: 2 from 127.0.0.1"


def test_a_request_line_behind_a_message_is_a_message() -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        async with listening(spool, StreamTerms(dialects=ALL)) as listener, connected(listener) as sender:
            sender.send(b"<14>a\n" + REQUEST)
            sender.half_close()
            assert await sender.ending() == "closed"
            assert spool.messages == [b"<14>a", b"GET / HTTP/1.1", b"Host: x"]

    run(scenario)


def test_aside_keeps_the_newest_files_and_a_fault_is_harmless(tmp_path: Path) -> None:
    times = iter(range(10**15, 10**16, 10**6))
    aside = Aside(str(tmp_path / "aside"), lambda: next(times))
    for number in range(MOST + 5):
        aside.keep("2001:db8::1", b"%d" % number)
    kept = sorted((tmp_path / "aside").iterdir())
    assert [path.read_bytes() for path in kept] == [b"%d" % number for number in range(5, MOST + 5)]
    (tmp_path / "file").write_text("")
    Aside(str(tmp_path / "file" / "aside")).keep("192.0.2.7", b"x")


def test_plain_syslog_on_a_tls_port_is_named(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    counters = by_tls(authority, [b"<14>plain syslog\n"], (), "reset")
    assert counters.framing_errors == 1
    (logged,) = warnings(caplog)
    assert 'it begins with "<14>plain syslog\\n", which is not TLS; switch TLS on at the sender' in logged


def by_tls(authority: Authority, sent: Sequence[bytes], proxies: Sequence[object], ending: str) -> ListenerCounters:
    pair = authority.pair(SERVER, "127.0.0.1")
    settings = ReceiverTls.model_validate(
        {"listen": "127.0.0.1:0", "certificate": str(pair.certificate), "private-key": str(pair.key)}
    )

    async def scenario() -> ListenerCounters:
        terms = StreamTerms(dialects=ALL, proxies=PROXIES if proxies else ())
        identity = ServerIdentity(settings)
        async with (
            TlsListener(Address("127.0.0.1", 0), identity, PromptSpool().submit, terms=terms) as listener,
            connected(listener) as sender,
        ):
            for octets in sent:
                sender.send(octets)
            assert await sender.ending() == ending
            return listener.counters

    return asyncio.run(scenario())


# --- PROXY headers ---


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(
    ("header", "address"),
    [
        (V1, "192.0.2.7"),
        (V2, "192.0.2.7"),
        (version_2(1, 0x21, addresses("2001:db8::7", "2001:db8::8")), "2001:db8::7"),
        (version_2(0, 0, b""), "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ],
)
def test_the_header_of_a_listed_proxy_names_the_sender(header: bytes, address: str, bytewise: bool) -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        terms = StreamTerms(dialects=ALL, listener="tcp://0.0.0.0:514", proxies=PROXIES)
        async with listening(spool, terms) as listener, connected(listener) as sender:
            stream = header + b"1 open 30 relp_version=0\ncommands=syslog\n2 syslog 5 <1>ab\n3 close 0\n"
            for piece in [stream[at : at + 1] for at in range(len(stream))] if bytewise else [stream]:
                sender.send(piece)
                await asyncio.sleep(0)
            assert await sender.ending() == "answered"
            (batch,) = spool.batches
            assert batch.provenance is not None
            assert (batch.provenance.peer, batch.provenance.protocol) == (address, "relp")
            assert spool.messages == [b"<1>ab"]

    run(scenario)


@pytest.mark.parametrize(
    ("octets", "cause"),
    [
        (b"<14>no header\n", "it has no PROXY header"),
        (b"PROXY TCP4 192.0.2.7\r\n<14>x\n", "its PROXY line is malformed"),
        (PROXY_SIGNATURE + b"\x31" + bytes(20), "version and command 0x31"),
    ],
)
def test_a_listed_proxy_without_a_proper_header_is_named_and_reset(
    octets: bytes, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        async with (
            listening(spool, StreamTerms(dialects=ALL, proxies=PROXIES)) as listener,
            connected(listener) as sender,
        ):
            sender.send(octets)
            assert await sender.ending() == "reset"
            assert not spool.batches

    run(scenario)
    (logged,) = warnings(caplog)
    assert cause in logged
    assert "send-proxy" in logged


def test_a_health_check_without_an_octet_is_closed_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        terms = StreamTerms(dialects=ALL, proxies=PROXIES)
        async with listening(PromptSpool(), terms) as listener, connected(listener) as sender:
            sender.half_close()
            assert await sender.ending() == "closed"

    run(scenario)
    assert not warnings(caplog)


def test_the_header_of_an_unlisted_peer_is_not_parsed() -> None:
    async def scenario() -> None:
        spool = PromptSpool()
        terms = StreamTerms(dialects=ALL, listener="tcp://0.0.0.0:514", proxies=(ip_network("192.0.2.0/24"),))
        async with listening(spool, terms) as listener, connected(listener) as sender:
            sender.send(V1 + b"<14>x\n")
            sender.half_close()
            assert await sender.ending() == "closed"
            assert spool.messages == [V1.removesuffix(b"\r\n"), b"<14>x"]
            (batch,) = spool.batches
            assert batch.provenance is not None
            assert batch.provenance.peer == "127.0.0.1"

    run(scenario)


def test_a_listed_network_has_its_addresses_also_over_ipv6() -> None:
    networks = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert is_in("192.0.2.9", networks)
    assert is_in("::ffff:192.0.2.9", networks)
    assert is_in("2001:db8::1", networks)
    assert is_in("fe80::1%eth0", (ip_network("fe80::/10"),))
    assert not is_in("192.0.3.9", networks)
    assert not is_in("host", networks)
