"""The vendor's examples of secure transport, unchanged except for addresses, ports and certificates.

The far ends are real: sshd and auditd behind it, and rsyslog by TLS on another host.
"""

import json
import re
from pathlib import Path

import pytest
from harness.auditd import Auditd
from harness.certificates import ROUTER, Authority, Shown
from harness.openssh import Sshd
from harness.relay import SEED, Router, audit_events
from harness.rsyslog import Rsyslog
from harness.two_hosts import SERVER, TwoHosts
from harness.waiting import wait_until

EVENTS = 26  # in SEED
EXAMPLES = Path(__file__).parent.parent / "config" / "ssr"


@pytest.fixture
def far_end(auditd: Auditd) -> Auditd:
    return auditd


def the_routers_configuration(router: Router) -> Path:
    """Both parts of the example in one file, for servers on this machine."""
    names = ("secure-transport-port-forwarding", "secure-transport-server")
    text = "".join((EXAMPLES / f"{name}.cfg").read_text() for name in names)
    changes = {
        "7777": router.local_port,
        "remote-port 9999": f"remote-port {router.forwarding['remote-port']}",
        "172.18.4.99": router.sshd.host,
        "server-port 22": f"server-port {router.sshd.port}",
    }
    for there, here in changes.items():
        assert there in text
        text = text.replace(there, str(here))
    file = router.folder / "router.cfg"
    file.write_text(text)
    return file


def what_the_router_does_not_say(router: Router) -> Path:
    """User and keys; and the log and the state of a test."""
    file = router.folder / "keys.toml"
    keys = ("local-port", "username", "private-key", "known-hosts")
    lines = [f"{key} = {json.dumps(router.forwarding[key])}" for key in keys]
    file.write_text(
        "\n".join(
            (
                "[relay]",
                f'state-directory = "{router.state}"',
                "[[source]]",
                'name = "audit"',
                f'path = "{router.audit_log}"',
                "[[port-forwarding]]",
                *lines,
                "",
            )
        )
    )
    return file


def audit_records(auditd: Auditd) -> list[bytes]:
    """The messages that arrived, without relay's own events."""
    return [record for record in auditd.records() if b" type=TRUSTED_APP " not in record]


def test_the_example_delivers_the_routers_records_to_auditd(tmp_path: Path, sshd: Sshd, auditd: Auditd) -> None:
    router = Router(tmp_path, sshd, auditd.port)
    router.audit_log.write_bytes(SEED.read_bytes())
    router.configuration = the_routers_configuration(router)
    keys = str(what_the_router_does_not_say(router))

    check = router.run("config", "check", "-c", keys)
    done = router.run("run", "--drain", "--timeout", "60", "-c", keys)

    assert (check.returncode, check.stderr) == (0, "")
    assert "no mistakes" in check.stdout
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    expected = [b"node=combo1 " + record for record in SEED.read_bytes().splitlines()]
    wait_until(lambda: len(audit_records(auditd)) >= len(expected), 60, lambda: f"{audit_records(auditd)}")
    assert audit_records(auditd) == expected
    status = json.loads(router.run("status", "--json", "-c", keys).stdout)
    (destination,) = status["destinations"]
    assert (destination["proof"], destination["waiting_events"]) == ("acknowledged", 0)


def syslog_over_tls(router: Router, port: int, authority: Authority) -> Path:
    """The example with certificates that are good, and every severity."""
    text = (EXAMPLES / "syslog-over-tls.cfg").read_text()
    pems = [authority.certificate.read_text(), authority.pair(ROUTER).certificate.read_text()]
    text = re.sub(
        r" *-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", lambda _: pems.pop(0), text, flags=re.DOTALL
    )
    changes = {
        "192.0.2.8 6514": f"{SERVER} {port}",
        "ip-address  192.0.2.8": f"ip-address {SERVER}",
        "port        6514": f"port {port}",
        "192.0.2.9 6514": f"{SERVER} {port}",
        "ip-address  192.0.2.9": f"ip-address {SERVER}",
        "warning": "info",
    }
    for there, here in changes.items():
        assert there in text
        text = text.replace(there, here)
    file = router.folder / "router.cfg"
    file.write_text(text)
    return file


def the_key_of_its_certificate(router: Router, port: int, authority: Authority) -> Path:
    """The keys that a router's text does not have, and the test's log and state."""
    file = router.folder / "keys.toml"
    file.write_text(
        "\n".join(
            (
                "[relay]",
                f'state-directory = "{router.state}"',
                "[audit]",
                'watch-auditd = "never"',
                "[[source]]",
                'name = "audit"',
                f'path = "{router.audit_log}"',
                "[[remote-logging-server]]",
                f'address = "{SERVER}"',
                f"port = {port}",
                f'private-key = "{authority.certificate.parent}/{ROUTER}.key"',
                "",
            )
        )
    )
    return file


def test_the_example_of_syslog_over_tls_delivers_with_the_certificates_in_its_text(tmp_path: Path, sshd: Sshd) -> None:
    authority = Authority(tmp_path / "certificates")
    shown = Shown(authority.pair("log.example", SERVER), authority.certificate)
    with TwoHosts() as hosts, Rsyslog("imtcp", host=SERVER, prefix=hosts.server, tls=shown) as rsyslog:
        router = Router(tmp_path, sshd, 1)
        router.prefix = hosts.router
        router.audit_log.write_bytes(SEED.read_bytes())
        router.configuration = syslog_over_tls(router, rsyslog.port, authority)
        keys = str(the_key_of_its_certificate(router, rsyslog.port, authority))

        check = router.run("config", "check", "-c", keys)
        done = router.run("run", "--drain", "--timeout", "60", "-c", keys)

        assert check.returncode == 0, check.stderr
        assert done.returncode == 0, done.stderr
        assert len(audit_events(rsyslog.wait_for_messages(EVENTS + 1))) == EVENTS
        (destination,) = json.loads(router.run("status", "--json", "-c", keys).stdout)["destinations"]
        assert (destination["proof"], destination["waiting_events"]) == ("drained", 0)
