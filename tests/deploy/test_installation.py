"""deploy/README.md, typed from top to bottom on a machine without relay.

The machine is this one's /usr under the real systemd, with an empty /etc, /opt and /var. It has no network: pip finds
its packages in a folder, and `apt-get` only records which packages are asked for.
"""

import re
import shutil
from collections.abc import Iterator
from typing import Final

import pytest
from deploy.conftest import AUDITD_UNIT, DEPLOY, RELAY, Router, documented
from harness.debian import AUDITD, fetch
from harness.openssh import fingerprint, generate_key
from harness.relay import SEED
from harness.waiting import wait_until
from harness.wheels import copy_of_the_checkout, for_pip, wheels

pytestmark = pytest.mark.timeout(300)

LOG_SERVER: Final = "172.18.4.99"
INSTALLING: Final = 240.0
"""A limit in seconds for a busy machine; an idle one needs ten."""
_RECEIVE: Final = (
    "[Service]\nExecStart=/usr/local/bin/relay receive --ssh-listen 172.18.4.99:22 --host-key /etc/log-server/host_key "
    "--authorized-keys /etc/log-server/authorized_keys --state /var/lib/log-server --archive /var/log/relay\n"
)
_APT_GET: Final = '#!/bin/sh\necho "$*" >>/run/apt-get\n'
_RUNUSER: Final = "auth sufficient pam_rootok.so\nsession required pam_permit.so\n"
"""The part of Debian's /etc/pam.d/runuser that needs no other file."""


class FreshMachine(Router):
    """A machine without relay, with the address and the host key of a log server."""

    def furnish(self) -> None:
        """Remove what the harness installed, and copy the checkout and the wheels there."""
        self.run("umount", "/opt/relay")
        self.run("rm", "-r", "/opt/relay", "/usr/local/bin/relay", "/usr/local/bin/python-of-relay")
        shutil.copytree(wheels(), self.root / "srv/wheels")
        copy_of_the_checkout(self.root / "srv/relay")
        self.run("sh", "-c", "cat >/usr/local/bin/apt-get; chmod 755 /usr/local/bin/apt-get", stdin=_APT_GET)
        (self.root / "etc/pam.d").mkdir()
        (self.root / "etc/pam.d/runuser").write_text(_RUNUSER)
        self._furnish_auditd()
        self.run("ip", "address", "add", f"{LOG_SERVER}/32", "dev", "lo")
        (self.root / "etc/log-server").mkdir()
        self.host_key = generate_key(self.root / "etc/log-server/host_key").with_suffix(".pub")

    def _furnish_auditd(self) -> None:
        """Debian's configuration of auditd, and a log that only root can read; a stub runs as auditd."""
        (self.root / "etc/audit").mkdir()
        shutil.copy(fetch(AUDITD).file("etc/audit/auditd.conf"), self.root / "etc/audit")
        self.add("auditd.service", AUDITD_UNIT)
        self.run("systemctl", "start", "auditd.service")
        self.run("install", "-d", "-m", "700", "/var/log/audit")
        self.run("install", "-m", "600", "/dev/null", "/var/log/audit/audit.log")

    def type(self, block: str) -> str:
        """Type a block of commands into root's shell; returns the output."""
        pip = [f"{name}={value}" for name, value in for_pip("/srv/wheels").items()]
        return self.run("env", *pip, "bash", "-euxc", f"cd /srv/relay\n{block}", seconds=INSTALLING)

    def type_the_keys(self, block: str) -> None:
        """Type the second block; in the middle of it the log server's administrator adds the printed line."""
        generate, rest = block.split("\n", 1)
        line = self.type(generate)
        (self.root / "etc/log-server/authorized_keys").write_text(line)
        self.add("log-server.service", _RECEIVE)
        self.run("systemctl", "start", "log-server.service")
        wait_until(lambda: self.ask("bash", "-c", f"</dev/tcp/{LOG_SERVER}/22").returncode == 0, 60, self.journal)
        trust = f"key trust {LOG_SERVER}"
        assert trust in rest
        self.type(rest.replace(trust, f"{trust} --fingerprint {fingerprint(self.host_key)}"))


@pytest.fixture
def fresh_machine() -> Iterator[FreshMachine]:
    with FreshMachine() as machine:
        machine.furnish()
        yield machine


def test_the_page_typed_from_top_to_bottom_delivers_events(fresh_machine: FreshMachine) -> None:
    install, keys, start = documented()
    fresh_machine.type(install)
    assert fresh_machine.run("cat", "/run/apt-get") == "install -y python3-venv auditd\n"
    fresh_machine.type_the_keys(keys)
    assert "proof" in fresh_machine.type(start)
    fresh_machine.write_records(SEED.read_bytes())
    fresh_machine.wait_for_audit_events(26)
    assert fresh_machine.property_of(RELAY, "ActiveState") == "active"
    for path, owner, mode in documented_owners():
        found = fresh_machine.run("stat", "-c", "%U %U:%G %04a", path).split()
        assert owner in found, f"{path} belongs to {found}, and the page says {owner}"
        assert mode in found, f"{path} has the mode {found}, and the page says {mode}"


def documented_owners() -> list[tuple[str, str, str]]:
    """The page's table of paths, with owners and modes."""
    rows = re.findall(r"^\| `(/\S+)` \| (\S+), (\d{4}) \|", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    assert len(rows) == 7
    return rows
