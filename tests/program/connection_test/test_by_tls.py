"""To servers by TLS: inside a port-forward, and straight to another host."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.certificates import ROUTER, SERVER, Authority, Pair, Shown
from harness.openssh import Sshd
from harness.relay import Router
from harness.rsyslog import Rsyslog
from harness.two_hosts import SERVER as OTHER_HOST
from harness.two_hosts import TwoHosts
from program.connection_test.asking import STEPS_BY_TLS, Answer, ask, ask_patiently


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture
def shown(authority: Authority) -> Shown:
    return Shown(authority.pair(SERVER), authority.certificate)


@pytest.fixture
def own(authority: Authority) -> Pair:
    """The certificate of relay; every collector here requires it."""
    return authority.pair(ROUTER)


@pytest.fixture
def router(tmp_path: Path, sshd: Sshd, authority: Authority, own: Pair) -> Router:
    router = Router(tmp_path, sshd, 1)
    router.audit_log.touch()
    router.server |= {
        "transport": "tls",
        "ca": str(authority.certificate),
        "server-name": SERVER,
        "certificate": str(own.certificate),
        "private-key": str(own.key),
    }
    return router


def asked(router: Router, port: int, **keys: str) -> Answer:
    """Through the port-forward."""
    router.server |= keys
    router.write_configuration(remote_port=port)
    return ask(router.configuration)


def asked_patiently(router: Router, port: int) -> Answer:
    """The same for a collector that surely refuses: with TLS 1.3 it does so after relay has ended its handshake."""
    router.write_configuration(remote_port=port)
    return ask_patiently(router.configuration)


def test_inside_a_port_forward_every_step_passes(router: Router, shown: Shown) -> None:
    with Rsyslog("imtcp", tls=shown) as rsyslog:
        answer = asked(router, rsyslog.port)
        assert b" TEST [" in rsyslog.wait_for_messages(1)[0]
    assert (answer.exit_code, list(answer.steps)) == (0, STEPS_BY_TLS)
    assert "skipped" not in answer.outcomes()
    assert answer.steps["TLS handshake"]["found"] == "TLSv1.3, TLS_AES_256_GCM_SHA384"
    found = answer.steps["certificate"]["found"]
    assert found.startswith(f"{SERVER}, by authority, until 20")
    assert found.endswith(shown.pair.fingerprint)
    assert answer.whole["servers"][0]["proof"] == "drained"
    assert "its delivery is proven (drained)" in answer.sentence


def test_straight_to_another_host(router: Router, shown: Shown) -> None:
    with TwoHosts() as hosts, Rsyslog("imtcp", host=OTHER_HOST, prefix=hosts.server, tls=shown) as rsyslog:
        router.prefix = hosts.router
        router.server |= {"address": OTHER_HOST, "port": rsyslog.port}
        router.write_configuration()
        answer = ask(router.configuration, prefix=router.prefix)
        assert b" TEST [" in rsyslog.wait_for_messages(1)[0]
    assert (answer.exit_code, list(answer.steps)) == (0, STEPS_BY_TLS)
    assert answer.steps["authentication"]["outcome"] == "skipped"
    assert answer.steps["TLS handshake"]["outcome"] == "ok"
    assert f"straight to {OTHER_HOST}:{rsyslog.port} by tls, and its delivery is proven (drained)" in answer.sentence
    assert "without encryption" not in str(answer.whole)


def test_a_certificate_that_expires_soon_is_a_warning(router: Router, authority: Authority) -> None:
    pair = authority.pair("soon.example", days=3)
    with Rsyslog("imtcp", tls=Shown(pair, authority.certificate)) as rsyslog:
        answer = asked(router, rsyslog.port, **{"server-name": "soon.example"})
    step = answer.steps["certificate"]
    assert (answer.exit_code, step["outcome"], step["remedy"]) == (0, "warning", "renew it there")
    assert step["found"].endswith("; it expires in 2 days")


def test_a_certificate_for_another_name(router: Router, shown: Shown) -> None:
    with Rsyslog("imtcp", tls=shown) as rsyslog:
        failed = asked(router, rsyslog.port, **{"server-name": "elsewhere.example"}).failure("certificate", 77)
    assert f'its certificate is for "{SERVER}" and not for "elsewhere.example"' in failed["found"]
    assert failed["remedy"].startswith(f'if that is the right server, set `server-name = "{SERVER}"`; ')


def test_a_collector_that_requires_a_client_certificate(router: Router, shown: Shown) -> None:
    del router.server["certificate"], router.server["private-key"]
    with Rsyslog("imtcp", tls=shown) as rsyslog:
        failed = asked_patiently(router, rsyslog.port).failure("certificate", 77)
    assert "it requires a client certificate, and none is configured" in failed["found"]


def test_a_collector_that_requires_a_client_certificate_without_saying_so(router: Router, shown: Shown) -> None:
    """As rsyslog does with GnuTLS."""
    del router.server["certificate"], router.server["private-key"]
    with Rsyslog("imtcp", tls=shown._replace(driver="gtls")) as rsyslog:
        failed = asked_patiently(router, rsyslog.port).failure("TLS handshake", 76)
    assert (
        failed["remedy"] == "its log names the reason: it may require a client certificate, or another one than relay's"
    )


def test_a_collector_without_tls(router: Router) -> None:
    with Rsyslog("imtcp") as rsyslog:
        failed = asked(router, rsyslog.port).failure("TLS handshake", 76)
    assert 'transport = "tcp"' in failed["remedy"]


def test_a_private_key_that_others_can_read(router: Router, own: Pair) -> None:
    own.key.chmod(0o644)
    failed = asked(router, 9).failure("private key", 77)
    assert failed["remedy"] == f"`chmod 600 {own.key}`"


def test_a_ca_file_that_does_not_exist(router: Router) -> None:
    failed = asked(router, 9, ca="/nonexistent").failure("private key", 77)
    assert failed["found"] == "certificate /nonexistent: there is no such file"
