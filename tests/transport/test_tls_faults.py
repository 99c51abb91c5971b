"""Which TLS servers relay trusts, and why not: s_server, rsyslog and syslog-ng with certificates of every kind."""

import contextlib
import datetime as dt
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from harness.certificates import ROUTER, SERVER, Authority, Pair, Shown
from harness.openssl import SServer
from harness.ports import LOOPBACK
from harness.rsyslog import Rsyslog
from harness.syslog_ng import SyslogNg

from relay.errors import PermissionRefusedError
from relay.transport.tcp import TcpTransport
from relay.transport.tls.client import tls_client
from relay.transport.tls.transport import TlsPeer, TlsTransport
from relay.values.configuration.settings import RemoteLoggingServer

VERSIONS = ["-tls1_2", "-tls1_3"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Signers(NamedTuple):
    """Authorities, each with a folder of its own."""

    root: Authority
    between: Authority
    """Signed by the root."""
    stranger: Authority
    old: Authority
    """Signed by the root; it has expired."""
    layman: Authority
    """Signed by the root, and not allowed to sign anything."""
    namesake: Authority
    """Another authority with the root's name."""


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Signers:
    folder = tmp_path_factory.mktemp("signers")
    root = Authority(folder / "root", "root")
    between = Authority(folder / "between", "between", root)
    stranger = Authority(folder / "stranger", "stranger")
    old = Authority(folder / "old", "old", root, days=-1)
    layman = Authority(folder / "layman", "layman", root, ca=False)
    return Signers(root, between, stranger, old, layman, Authority(folder / "namesake", "root"))


def connect(
    port: int,
    stop: threading.Event,
    ca: Path | str,
    own: Pair | None = None,
    *,
    name: str = SERVER,
    listen: bool = False,
) -> None:
    """Connect as `relay run` does; with `listen`, read as well, because with TLS 1.3 a refusal arrives later."""
    keys = {} if own is None else {"certificate": str(own.certificate), "private-key": str(own.key)}
    keys |= {"ca": str(ca), "server-name": name}
    server = RemoteLoggingServer(address=LOOPBACK, port=port, transport="tls", **keys)
    transport = TlsTransport(TcpTransport(LOOPBACK, port, stop), tls_client(server), TlsPeer("collector"), stop)
    with contextlib.closing(transport):
        pipe = transport.open()
        if listen:
            pipe.receive(60)


def chain(*authorities: Authority) -> list[str]:
    """s_server's option to send these certificates too."""
    file = authorities[0].certificate.with_suffix(".chain")
    file.write_bytes(b"".join(each.certificate.read_bytes() for each in authorities))
    return ["-cert_chain", str(file)]


# --- Trusted ---


@pytest.mark.parametrize("sends", ["its own certificate alone", "its chain"])
def test_an_intermediate_certificate_is_trusted_by_itself(
    signers: Signers, tmp_path: Path, stop: threading.Event, sends: str
) -> None:
    options = chain(signers.between) if sends == "its chain" else []
    with SServer(signers.between.pair(SERVER), tmp_path / "said", *options) as far:
        connect(far.port, stop, signers.between.certificate)


def test_the_servers_own_certificate_is_trusted_by_itself(
    signers: Signers, tmp_path: Path, stop: threading.Event
) -> None:
    pair = signers.between.pair(SERVER)
    with SServer(pair, tmp_path / "said") as far:
        connect(far.port, stop, pair.certificate)


@pytest.mark.parametrize("peer", ["rsyslog", "rsyslog by GnuTLS", "syslog-ng"])
def test_collectors_are_trusted_by_an_intermediate_certificate(
    signers: Signers, stop: threading.Event, peer: str
) -> None:
    shown = Shown(signers.between.pair(SERVER), signers.root.certificate, "gtls" if "GnuTLS" in peer else "ossl")
    own = signers.root.pair(ROUTER)
    with SyslogNg("syslog", tls=shown) if peer == "syslog-ng" else Rsyslog("imtcp", tls=shown) as far:
        connect(far.port, stop, signers.between.certificate, own)


# --- Not trusted: the server's certificate is at fault ---


class Distrusted(NamedTuple):
    """A server's certificate, its other certificates, the authority in `ca`, and the expected error."""

    pair: Callable[[Signers], Pair]
    cause: str
    remedy: str
    options: Callable[[Signers], list[str]] = lambda _: []
    ca: Callable[[Signers], Authority] = lambda signers: signers.root
    name: str = SERVER


DISTRUSTED = {
    "expired": Distrusted(
        lambda signers: signers.root.pair(SERVER, days=-1),
        "its certificate expired on TIME; ",
        "renew it there; if this machine's clock is wrong, set it (`timedatectl`)",
    ),
    "not yet valid": Distrusted(
        lambda signers: signers.root.pair(SERVER, begins=2),
        "its certificate is not valid before TIME; ",
        "if this machine's clock is wrong, set it (`timedatectl`)",
    ),
    "its signer has expired": Distrusted(
        lambda signers: signers.old.pair(SERVER),
        'the certificate of "old", which signs its certificate, expired on TIME; ',
        "renew it there",
        lambda signers: chain(signers.old),
    ),
    "what ca names has expired": Distrusted(
        lambda signers: signers.old.pair(SERVER),
        "a certificate that signs its certificate has expired; this machine's clock says ",
        "renew it there",
        ca=lambda signers: signers.old,
    ),
    "for clients": Distrusted(
        lambda signers: signers.root.pair(SERVER, usage="clientAuth"),
        "its certificate is not for servers (its extended key usage: clientAuth)",
        "have it issued with serverAuth in its extended key usage",
    ),
    "for another name": Distrusted(
        lambda signers: signers.root.pair("other.example", "192.0.2.7"),
        f'its certificate is for "other.example", "192.0.2.7" and not for "{SERVER}"',
        'if that is the right server, set `server-name = "other.example"`',
    ),
    "for another address": Distrusted(
        lambda signers: signers.root.pair("other.example", "192.0.2.7"),
        'its certificate is for "other.example", "192.0.2.7" and not for "192.0.2.8"',
        'if that is the right server, set `server-name = "other.example"`',
        name="192.0.2.8",
    ),
    "for a name that is in its subject alone": Distrusted(
        lambda signers: signers.root.pair("other.example", named=False),
        f'its certificate is for "other.example" and not for "{SERVER}"',
        'if that is the right server, set `server-name = "other.example"`',
    ),
    "self-signed": Distrusted(
        lambda signers: signers.stranger.itself,
        "its certificate is self-signed, and `ca` does not have it",
        'compare it with the original, then set `ca` to its file; or pin it: `fingerprint = "sha-256:',
        name="stranger",
    ),
    "by a stranger": Distrusted(
        lambda signers: signers.stranger.pair(SERVER),
        'its certificate is signed by "stranger", which `ca` does not have',
        'set `ca` to the file with the certificate of "stranger"; or pin it: `fingerprint = "sha-256:',
    ),
    "by a stranger whose certificate is sent": Distrusted(
        lambda signers: signers.stranger.pair(SERVER),
        'its certificate is signed by "stranger", which `ca` does not have',
        'set `ca` to the file with the certificate of "stranger"',
        lambda signers: chain(signers.stranger),
    ),
    "by one between that is not sent": Distrusted(
        lambda signers: signers.between.pair(SERVER),
        'its certificate is signed by "between", which `ca` does not have',
        'set `ca` to the file with the certificate of "between"',
    ),
    "by one that may not sign": Distrusted(
        lambda signers: signers.layman.pair(SERVER),
        "its certificate is signed by a certificate that is not an authority's",
        "have it signed by a certificate with CA:TRUE",
        lambda signers: chain(signers.layman),
    ),
    "by a namesake": Distrusted(
        lambda signers: signers.namesake.pair(SERVER),
        'its certificate is not signed by the "root" that `ca` has',
        "`ca` names an older or another certificate of that name: replace it; or pin it",
    ),
    "too weak": Distrusted(
        lambda signers: signers.root.pair(SERVER, weak=True),
        "its certificate, or one that signs it, is too weak",
        "RSA key of 2048 bits or more",
        lambda _: ["-cipher", "ALL:@SECLEVEL=0"],
    ),
}


@pytest.mark.parametrize("fault", DISTRUSTED)
def test_each_fault_of_a_servers_certificate_has_its_own_cause_and_remedy(
    signers: Signers, tmp_path: Path, stop: threading.Event, fault: str
) -> None:
    wrong = DISTRUSTED[fault]
    pair = wrong.pair(signers)
    with SServer(pair, tmp_path / "said", *wrong.options(signers)) as far:
        begun = dt.datetime.now(dt.UTC).replace(microsecond=0)
        with pytest.raises(PermissionRefusedError) as refused:
            connect(far.port, stop, wrong.ca(signers).certificate, name=wrong.name)
    cause, remedy = refused.value.cause, refused.value.remedy
    assert refused.value.what == "collector"
    assert TIME.sub("TIME", cause).startswith(wrong.cause)
    assert wrong.remedy in remedy
    found = [dt.datetime.fromisoformat(time) for time in TIME.findall(cause)]
    *ends, now = found or [begun]
    assert begun <= now <= dt.datetime.now(dt.UTC)
    shown = [x509.load_pem_x509_certificate(path.read_bytes()) for path in (pair.certificate, signers.old.certificate)]
    assert set(ends) <= {time for each in shown for time in (each.not_valid_before_utc, each.not_valid_after_utc)}


def test_without_a_ca_the_machines_own_list_is_named(signers: Signers, tmp_path: Path, stop: threading.Event) -> None:
    with SServer(signers.root.pair(SERVER), tmp_path / "said") as far, pytest.raises(PermissionRefusedError) as refused:
        connect(far.port, stop, "")
    assert refused.value.cause.endswith('"root", which this machine\'s own list of authorities does not have')


# --- Not trusted: relay's certificate is at fault ---


class Refused(NamedTuple):
    """relay's certificate, and the expected error."""

    pair: Callable[[Signers], Pair | None]
    cause: str
    remedy: str


REFUSED = {
    "expired": Refused(
        lambda signers: signers.root.pair(ROUTER, days=-1),
        "(TLS alert: certificate expired): it is valid until TIME",
        "renew it; if it has not expired, that machine's clock is wrong",
    ),
    "by a stranger": Refused(
        lambda signers: signers.stranger.pair(ROUTER),
        '(TLS alert: unknown ca): it is signed by "stranger", which is not trusted there',
        'add the certificate of "stranger" to that machine\'s authorities, or use one that it trusts',
    ),
    "by a namesake": Refused(
        lambda signers: signers.namesake.pair(ROUTER),
        '(TLS alert: decrypt error): it has another certificate with the name "root", which did not sign relay\'s',
        'add the current certificate of "root" to that machine\'s authorities',
    ),
    "for servers": Refused(
        lambda signers: signers.root.pair(ROUTER, usage="serverAuth"),
        "(TLS alert: unsupported certificate): it is for serverAuth",
        "have it issued with clientAuth in its extended key usage",
    ),
    "not yet valid": Refused(
        lambda signers: signers.root.pair(ROUTER, begins=2),
        f'(TLS alert: bad certificate): it is for "{ROUTER}", by "root", valid from TIME to TIME',
        "that machine's log names the reason: its clock",
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fault", REFUSED)
def test_each_refusal_of_relays_certificate_has_its_own_cause_and_remedy(
    signers: Signers, tmp_path: Path, stop: threading.Event, fault: str, version: str
) -> None:
    wrong = REFUSED[fault]
    demand = ["-Verify", "2", "-verify_return_error", "-CAfile", str(signers.root.certificate), version]
    with (
        SServer(signers.root.pair(SERVER), tmp_path / "said", *demand) as far,
        pytest.raises(PermissionRefusedError) as refused,
    ):
        connect(far.port, stop, signers.root.certificate, wrong.pair(signers), listen=True)
    assert TIME.sub("TIME", refused.value.cause).startswith(f"it refuses relay's certificate {wrong.cause}")
    assert refused.value.remedy.startswith(wrong.remedy)


def test_a_server_that_requires_a_certificate_although_none_is_configured(
    signers: Signers, tmp_path: Path, stop: threading.Event
) -> None:
    demand = ["-Verify", "2", "-verify_return_error", "-CAfile", str(signers.root.certificate), "-tls1_3"]
    with (
        SServer(signers.root.pair(SERVER), tmp_path / "said", *demand) as far,
        pytest.raises(PermissionRefusedError, match="it requires a client certificate, and none is configured"),
    ):
        connect(far.port, stop, signers.root.certificate, listen=True)


@pytest.mark.parametrize("peer", ["rsyslog", "syslog-ng"])
def test_the_refusals_of_real_collectors_are_recognized(signers: Signers, stop: threading.Event, peer: str) -> None:
    shown = Shown(signers.root.pair(SERVER), signers.root.certificate)
    own = signers.stranger.pair(ROUTER)
    with (
        SyslogNg("syslog", tls=shown) if peer == "syslog-ng" else Rsyslog("imtcp", tls=shown) as far,
        pytest.raises(PermissionRefusedError, match=r"it refuses relay's certificate \(TLS alert: "),
    ):
        connect(far.port, stop, signers.root.certificate, own, listen=True)
