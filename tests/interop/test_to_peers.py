"""`relay run` into every collector that speaks one of its protocols; every octet of what arrives is compared.

The messages lie in relay's spool as a program on the router gave them. Where an octet changes on the way, it is told
who changed it.
"""

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest
from harness.auditd import Auditd
from harness.certificates import ROUTER, SERVER, Authority, Pair, Shown
from harness.openssh import Sshd
from harness.ports import LOOPBACK, free_port
from harness.receiver import Receiver, ledgered
from harness.relay import SEED, Router, archived, audit_events, octet_counted
from harness.rsyslog import Rsyslog
from harness.syslog_ng import Driver, SyslogNg
from harness.waiting import wait_until
from interop.messages import (
    BEGINS_WITH_A_DIGIT,
    HEAD,
    HUGE,
    MESSAGES,
    ONE_OCTET,
    WITH_LF,
    WITH_NUL,
    foreign,
    with_changes,
)
from program.history import spools

from relay.syslog.rfc5424 import parse

EVENTS = 26  # in SEED
HEADED = re.compile(rb"<[0-9]+>1 ")

# A message without a priority gets that of user.notice.
WITH_PRI: dict[bytes, bytes | None] = {
    ONE_OCTET: b"<13>x",
    BEGINS_WITH_A_DIGIT: b"<13>" + BEGINS_WITH_A_DIGIT,
}
# rsyslog keeps no NUL in any message, whatever its configuration.
BY_RSYSLOG: dict[bytes, bytes | None] = {**WITH_PRI, WITH_NUL: HEAD + b"a#000b"}
# A line cannot hold its own trailer: relay writes what rsyslog would.
AS_LINES: dict[bytes, bytes | None] = {**BY_RSYSLOG, WITH_LF: HEAD + b"line#012line"}
# UDP over IPv4 carries 65,507 octets.
IN_DATAGRAMS: dict[bytes, bytes | None] = {HUGE: HUGE[:65_507]}

Framing = Literal["octet-counting", "non-transparent"]


class Peer(Protocol):
    """A collector."""

    port: int

    def messages(self) -> list[bytes]: ...


@pytest.fixture
def deliver(tmp_path: Path, sshd: Sshd) -> Callable[..., str]:
    """Runs relay until everything is delivered to a port behind the SSH server; returns the kind of its proof."""

    def run(port: int, /, log: bytes = b"", **keys: str | int) -> str:
        state = tmp_path / "state"
        spools.filled(state, [spools.foreign(message) for message in MESSAGES], segment_size=1 << 20)
        router = Router(tmp_path, sshd, port)
        router.server |= keys
        router.write_configuration()
        router.audit_log.write_bytes(log)
        done = router.drain()
        assert done.returncode == 0, done.stderr
        proof = router.status()["destinations"][0]["proof"]
        assert isinstance(proof, str)
        return proof

    return run


def arrived(peer: Peer, count: int) -> list[bytes]:
    """The peer's messages except relay's own events, once there are so many."""
    wait_until(lambda: len(foreign(peer.messages())) >= count, 60, lambda: repr(peer.messages()))
    return foreign(peer.messages())


@pytest.mark.parametrize("framing", ["octet-counting", "non-transparent"])
@pytest.mark.parametrize("module", ["imtcp", "imptcp"])
def test_rsyslog_over_tcp(deliver: Callable[..., str], module: Literal["imtcp", "imptcp"], framing: Framing) -> None:
    expected = with_changes(BY_RSYSLOG if framing == "octet-counting" else AS_LINES)
    with Rsyslog(module) as rsyslog:
        assert deliver(rsyslog.port, framing=framing) == "drained"
        assert arrived(rsyslog, len(expected)) == expected


def test_rsyslog_by_relp(deliver: Callable[..., str]) -> None:
    with Rsyslog("imrelp") as rsyslog:
        assert deliver(rsyslog.port, protocol="relp") == "acknowledged"
        assert arrived(rsyslog, len(MESSAGES)) == with_changes(BY_RSYSLOG)


def test_rsyslog_by_udp(deliver: Callable[..., str]) -> None:
    with Rsyslog("imudp") as rsyslog:
        assert deliver(1, port=rsyslog.port, transport="udp") == "unproven"
        assert arrived(rsyslog, len(MESSAGES)) == with_changes(BY_RSYSLOG | IN_DATAGRAMS)


def test_syslog_ngs_syslog_driver(deliver: Callable[..., str]) -> None:
    with SyslogNg("syslog") as syslog_ng:
        assert deliver(syslog_ng.port) == "drained"
        assert arrived(syslog_ng, len(MESSAGES)) == with_changes(WITH_PRI)


def test_syslog_ngs_network_driver(deliver: Callable[..., str]) -> None:
    with SyslogNg("network") as syslog_ng:
        assert deliver(syslog_ng.port, framing="non-transparent") == "drained"
        assert arrived(syslog_ng, len(MESSAGES)) == with_changes(AS_LINES)


# --- By TLS, inside the port-forward ---


@pytest.fixture
def keys(authority: Authority) -> dict[str, str]:
    """The certificate of relay, and the authority that it trusts; all these collectors require a client certificate."""
    own = authority.pair(ROUTER)
    return {
        "transport": "tls",
        "ca": str(authority.certificate),
        "server-name": SERVER,
        "certificate": str(own.certificate),
        "private-key": str(own.key),
    }


@pytest.mark.parametrize("driver", ["ossl", "gtls"])
def test_rsyslog_by_tls(
    deliver: Callable[..., str], authority: Authority, keys: dict[str, str], driver: Literal["ossl", "gtls"]
) -> None:
    with Rsyslog("imtcp", tls=Shown(authority.pair(SERVER), authority.certificate, driver)) as rsyslog:
        assert deliver(rsyslog.port, **keys) == "drained"
        assert arrived(rsyslog, len(MESSAGES)) == with_changes(BY_RSYSLOG)


def test_rsyslog_by_relp_and_tls(deliver: Callable[..., str], authority: Authority, keys: dict[str, str]) -> None:
    with Rsyslog("imrelp", tls=Shown(authority.pair(SERVER), authority.certificate)) as rsyslog:
        assert deliver(rsyslog.port, protocol="relp", **keys) == "acknowledged"
        assert arrived(rsyslog, len(MESSAGES)) == with_changes(BY_RSYSLOG)


@pytest.mark.parametrize(("driver", "framing"), [("syslog", "octet-counting"), ("network", "non-transparent")])
def test_syslog_ng_by_tls(
    deliver: Callable[..., str], authority: Authority, keys: dict[str, str], driver: Driver, framing: Framing
) -> None:
    with SyslogNg(driver, tls=Shown(authority.pair(SERVER), authority.certificate)) as syslog_ng:
        assert deliver(syslog_ng.port, framing=framing, **keys) == "drained"
        expected = with_changes(WITH_PRI if framing == "octet-counting" else AS_LINES)
        assert arrived(syslog_ng, len(expected)) == expected


@pytest.mark.parametrize("name", ["rsyslog by ossl", "rsyslog by gtls", "rsyslog by RELP", "syslog-ng"])
def test_a_collector_that_rejects_relays_certificate_proves_nothing(
    tmp_path: Path, sshd: Sshd, authority: Authority, keys: dict[str, str], name: str
) -> None:
    """With TLS 1.3 it rejects relay only after the handshake; with a certificate everything arrives."""
    with collector_by_tls(name, Shown(authority.pair(SERVER), authority.certificate)) as peer:
        router = Router(tmp_path, sshd, peer.port, protocol="relp" if "RELP" in name else "syslog")
        own = {key: keys.pop(key) for key in ("certificate", "private-key")}
        router.server |= keys
        router.write_configuration()
        router.audit_log.write_bytes(SEED.read_bytes())
        with router.start() as relay:
            wait_until(lambda: has_failed(router), 60, lambda: relay.log)
            wait_until(lambda: destination(router)["waiting_events"] >= EVENTS, 60, lambda: relay.log)
            relay.stop()
        assert audit_events(peer.messages()) == []
        router.server |= own
        router.write_configuration()
        assert router.drain().returncode == 0
        wait_until(lambda: len(audit_events(peer.messages())) >= EVENTS, 60, lambda: peer.log)
        assert destination(router)["waiting_events"] == 0
        assert len(audit_events(peer.messages())) == EVENTS


def has_failed(router: Router) -> bool:
    """Whether delivery has been tried and has failed; before relay has started there is no status."""
    return '"error": "' in router.run("status", "--json").stdout


def destination(router: Router) -> dict[str, Any]:
    (found,) = router.status()["destinations"]
    assert isinstance(found, dict)
    return found


def collector_by_tls(name: str, shown: Shown) -> Rsyslog | SyslogNg:
    match name:
        case "rsyslog by ossl":
            return Rsyslog("imtcp", tls=shown)
        case "rsyslog by gtls":
            return Rsyslog("imtcp", tls=shown._replace(driver="gtls"))
        case "rsyslog by RELP":
            return Rsyslog("imrelp", tls=shown)
        case _:
            return SyslogNg("syslog", tls=shown)


# ---


def test_rsyslog_that_ends_lines_with_a_nul(deliver: Callable[..., str]) -> None:
    """Its imtcp ends a message at a line feed as well, as the first message shows, so relay sends none in a message."""
    with Rsyslog("imtcp", nul_ends_lines=True) as rsyslog:
        with socket.create_connection((LOOPBACK, rsyslog.port)) as sender:
            sender.sendall(WITH_LF + b"\0")
        assert arrived(rsyslog, 2) == WITH_LF.split(b"\n")
        assert deliver(rsyslog.port, framing="non-transparent", trailer="NUL") == "drained"
        assert arrived(rsyslog, 2 + len(MESSAGES))[2:] == with_changes(AS_LINES)


LINES = {"framing": "non-transparent"}


@pytest.mark.parametrize("keys", [{}, {"protocol": "relp"}, LINES, {**LINES, "trailer": "NUL"}])
def test_relay_receive(deliver: Callable[..., str], tmp_path: Path, keys: dict[str, str]) -> None:
    receiver = Receiver(tmp_path / "server")
    with receiver.running():
        assert deliver(receiver.port, **keys) == ("acknowledged" if "protocol" in keys else "drained")
        wait_until(lambda: len(foreign(archived(receiver.archive))) >= len(MESSAGES), 60, receiver.status)
        expected = with_changes(AS_LINES if "framing" in keys else WITH_PRI)
        assert sorted(foreign(archived(receiver.archive))) == sorted(expected)


@pytest.mark.parametrize("protocol", ["syslog", "relp"])
def test_relay_receive_by_tls(
    deliver: Callable[..., str], tmp_path: Path, authority: Authority, keys: dict[str, str], protocol: str
) -> None:
    """The ledger has the certificate that relay shows."""
    pair, port = authority.pair(SERVER), free_port()
    flags = {"--tls-listen": f"127.0.0.1:{port}", "--certificate": pair.certificate, "--private-key": pair.key}
    flags["--ca"] = authority.certificate
    receiver = Receiver(tmp_path / "server", *(str(word) for flag in flags.items() for word in flag))
    with receiver.running():
        proof = {"syslog": "drained", "relp": "acknowledged"}[protocol]
        assert deliver(port, protocol=protocol, **keys) == proof
        wait_until(lambda: len(foreign(archived(receiver.archive))) >= len(MESSAGES), 60, receiver.status)
        assert sorted(foreign(archived(receiver.archive))) == sorted(with_changes(WITH_PRI))
        shown = f"{Pair(Path(keys['certificate']), Path(keys['private-key'])).fingerprint} {ROUTER}"
        assert {extent["by"] for extent in ledgered(receiver.archive, "router")} == {shown}


def test_syslog_ng_reads_an_audit_event_as_intended(tmp_path: Path, sshd: Sshd) -> None:
    """It writes messages in its own way: time stamps, and an element for the part before a name's dot."""
    with SyslogNg("syslog", parse=True) as syslog_ng:
        router = Router(tmp_path, sshd, syslog_ng.port)
        router.audit_log.write_bytes(SEED.read_bytes())
        assert router.drain().returncode == 0
        stored = router.run("spool", "cat", "--type", "audit", "--octet-counted")
        sent = octet_counted(stored.stdout.encode("utf-8", "surrogateescape"))
        wait_until(lambda: len(audit_events(syslog_ng.messages())) >= EVENTS, 60, lambda: syslog_ng.log)
        understood = audit_events(syslog_ng.messages())
        assert len(sent) == EVENTS
        assert understood == [by_syslog_ng(message) for message in sent]


def by_syslog_ng(message: bytes) -> bytes:
    """The message as syslog-ng writes it."""
    element = re.compile(rb'\[128T(?: [^ =]+="(?:[^"\\]|\\.)*")*\]', re.DOTALL).search(message)
    assert element is not None
    groups: dict[bytes, list[bytes]] = {}
    for name, value in re.findall(rb' ([^ =]+)=("(?:[^"\\]|\\.)*")', element[0]):
        group, dot, last = name.rpartition(b".")
        groups.setdefault(b"128T" + dot + group, []).append(b" %b=%b" % (last, value))
    written = b"".join(b"[%b%b]" % (name, b"".join(params)) for name, params in groups.items())
    return re.sub(rb"^(\S+ \S+)Z ", rb"\1+00:00 ", message).replace(element[0], written)


def test_auditd_has_every_octet_in_its_records(deliver: Callable[..., str]) -> None:
    """Records have the router's name; other messages are the `info` of one record or several, with their fields."""
    seed = SEED.read_bytes().splitlines()
    with Auditd() as auditd:
        assert deliver(auditd.port, SEED.read_bytes(), protocol="auditd") == "acknowledged"
        wait_until(lambda: len(texts(auditd.records())) >= len(MESSAGES), 60, lambda: repr(auditd.records()))
        wait_until(lambda: len(as_they_were(auditd.records())) >= len(seed), 60, lambda: repr(auditd.records()))
        assert sorted(as_they_were(auditd.records())) == sorted(b"node=combo1 " + record for record in seed)
        assert texts(auditd.records()) == [parse(each).msg if HEADED.match(each) else each for each in MESSAGES]


def as_they_were(records: list[bytes]) -> list[bytes]:
    return [record for record in records if b"type=TRUSTED_APP " not in record]


def texts(records: list[bytes]) -> list[bytes]:
    """The `info` of each message of type log, joined from all its records."""
    found: dict[bytes, bytes] = {}
    for record in records:
        if b' event_type="log"' in record:
            serial = record.partition(b"): ")[0].rpartition(b":")[2]
            info = record.rpartition(b" info=")[2]
            text = info[1:-1] if info.startswith(b'"') else bytes.fromhex(info.decode())
            found[serial] = found.get(serial, b"") + text
    return list(found.values())
