"""The vendor's example of secure transport, run as it stands but for addresses and ports: real sshd, real auditd."""

import json
from pathlib import Path

import pytest
from harness.auditd import Auditd
from harness.openssh import Sshd
from harness.relay import SEED, Router
from harness.waiting import wait_until

EXAMPLES = Path(__file__).parent.parent / "config" / "ssr"


@pytest.fixture
def far_end(auditd: Auditd) -> Auditd:
    return auditd


def the_routers_configuration(router: Router) -> Path:
    """Both parts of the example in one file, for servers that are here."""
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
    """What came, without relay's own events."""
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
    expected = SEED.read_bytes().splitlines()
    wait_until(lambda: len(audit_records(auditd)) >= len(expected), 20, lambda: f"{audit_records(auditd)}")
    assert audit_records(auditd) == expected
    status = json.loads(router.run("status", "--json", "-c", keys).stdout)
    (destination,) = status["destinations"]
    assert (destination["proof"], destination["waiting_events"]) == ("acknowledged", 0)
