"""relay-receive.service under the real systemd, installed as the page says."""

import re
import resource
import shutil
from collections.abc import Iterator
from typing import Final

import pytest
from archive.days.closed_archive import ClosedArchive
from deploy.conftest import DEPLOY
from harness.openssh import generate_key
from harness.relay import archived
from harness.systemd import SystemdMachine
from harness.waiting import wait_until

from relay.system.descriptors import MOST

UNIT: Final = "relay-receive.service"
NET_BIND_SERVICE: Final = 1 << 10  # capabilities(7)
(FAMILIES,) = re.findall(r"^RestrictAddressFamilies=.*$", (DEPLOY / UNIT).read_text(), re.MULTILINE)
IN_THE_UNITS_FAMILIES: Final = ("systemd-run", "--quiet", "--pipe", "--wait", f"--property={FAMILIES}")
_OTHERWISE: Final = ("apt-get", "python3 -m venv", "/opt/relay/bin/pip", "ln -sf /opt/relay", "ssh-keygen")
"""Commands of the page that the harness has done, or that need a program that the machine lacks."""
_SEND: Final = """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"<13>1 - device app - - - by udp", ("127.0.0.1", 514))
socket.create_connection(("127.0.0.1", 514)).sendall(b"<13>1 - device app - - - by tcp\\n")
"""

pytestmark = pytest.mark.timeout(300)


class DeployedLogServer(SystemdMachine):
    """The machine, with the page's commands typed."""

    def install(self) -> None:
        """Type the block under "On the log server"."""
        shutil.copytree(DEPLOY, self.root / "srv/deploy")
        section = (DEPLOY / "README.md").read_text().partition("\n## On the log server\n")[2].partition("\n## ")[0]
        (block,) = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        skipped = [line for line in block.splitlines() if line.startswith(_OTHERWISE)]
        assert len(skipped) == len(_OTHERWISE) + 1, "pip is called twice"
        before, after = re.split(r"^ssh-keygen .*\n", block, maxsplit=1, flags=re.MULTILINE)
        for part in (before, after):
            kept = [line for line in part.splitlines() if not line.startswith(_OTHERWISE)]
            self.run("bash", "-euxc", "\n".join(["cd /srv", *kept]))
            if part is before:
                generate_key(self.root / "etc/relay-receive/ssh_host_ed25519_key")

    def archived(self) -> list[bytes]:
        """All messages of the archive."""
        return archived(self.root / "var/log/relay")


@pytest.fixture
def log_server() -> Iterator[DeployedLogServer]:
    with DeployedLogServer() as machine:
        machine.install()
        yield machine


def test_a_closed_day_is_compressed_in_the_units_sandbox_and_its_group_is_kept(log_server: DeployedLogServer) -> None:
    with (log_server.root / "etc/group").open("a") as groups:
        groups.write("analysts:x:4321:\n")
    log_server.add(f"{UNIT}.d/group.conf", "[Service]\nSupplementaryGroups=analysts\n")
    log_server.run("systemctl", "stop", UNIT)
    configuration = log_server.root / "etc/relay-receive/relay.toml"
    text = configuration.read_text().replace("\n[receiver]\n", '\n[receiver]\narchive-group = "analysts"\n')
    configuration.write_text(f'{text}\n[receiver.retention]\ncompress-after = "0s"\n')
    log = ClosedArchive(log_server.root / "var/log/relay").add("fw1", "2026-11-20")
    log.chmod(0o640)
    log_server.run("chown", "-R", "relay-receive:analysts", "/var/log/relay/fw1")
    log_server.run("systemctl", "start", UNIT)
    copy = log.with_name(f"{log.name}.zst")
    wait_until(copy.exists, 60, log_server.journal)
    log_server.run("python-of-relay", "-c", _SEND, user="relay-receive")
    wait_until(lambda: b"by udp" in b"".join(log_server.archived()), 60, log_server.journal)
    for path in (copy.relative_to(log_server.root), "var/log/relay/device"):
        assert log_server.run("stat", "-c", "%U %G", f"/{path}").strip() == "relay-receive analysts"


def test_the_log_server_listens_on_low_ports_with_one_right_reloads_restarts_and_stops(
    log_server: DeployedLogServer,
) -> None:
    assert log_server.property_of(UNIT, "ActiveState") == "active"
    addresses = log_server.run(*IN_THE_UNITS_FAMILIES, "getent", "ahosts", "localhost")
    assert "127.0.0.1" in addresses, "names are resolved without AF_NETLINK"
    log_server.run("python-of-relay", "-c", _SEND, user="relay-receive")
    wait_until(lambda: {each[-6:] for each in log_server.archived()} >= {b"by udp", b"by tcp"}, 60, log_server.journal)
    pid = log_server.property_of(UNIT, "MainPID")
    status = dict(line.partition(":")[::2] for line in log_server.run("cat", f"/proc/{pid}/status").splitlines())
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == NET_BIND_SERVICE
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    limit = next(line for line in log_server.run("cat", f"/proc/{pid}/limits").splitlines() if "open files" in line)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # beyond it even the machine's own systemd cannot go
    assert limit.split()[3:5] == [str(MOST if most == resource.RLIM_INFINITY else min(MOST, most))] * 2
    for path, owner in (("/var/lib/relay-receive", "relay-receive 700"), ("/var/log/relay", "relay-receive 750")):
        assert log_server.run("stat", "-c", "%U %a", path).strip() == owner
    log_server.run("systemctl", "reload", UNIT)
    wait_until(lambda: "reloaded: nothing changed" in log_server.journal(UNIT), 60, log_server.journal)
    assert " <3> " not in log_server.journal(UNIT), "no line has the level of an error"
    assert log_server.property_of(UNIT, "MainPID") == pid
    log_server.add(f"{UNIT}.d/soon.conf", "[Service]\nRestartSec=100ms\nTimeoutStopSec=30\n")
    log_server.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    log_server.wait_until_property(UNIT, "NRestarts", "1")
    log_server.wait_until_property(UNIT, "ActiveState", "active")
    log_server.run("systemctl", "stop", UNIT)
    ended = [log_server.property_of(UNIT, key) for key in ("ActiveState", "Result", "ExecMainStatus")]
    assert ended == ["inactive", "success", "0"]
    assert "Traceback" not in log_server.journal(UNIT)
