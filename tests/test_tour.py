"""The README's tour, word for word except for addresses and paths, over a real sshd into a real rsyslog."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from harness.openssh import Sshd, fingerprint
from harness.ports import free_port
from harness.relay import SEED
from harness.rsyslog import Rsyslog
from harness.wheels import DEBIANS_PYTHON, copy_of_the_checkout, for_pip, wheels

ROOT = Path(__file__).parent.parent
COMMANDS = 6


def tour() -> list[str]:
    """The commands of the tour; a blank line is between two."""
    page = (ROOT / "README.md").read_text().partition("## A tour in five minutes")[2]
    block = re.search(r"```sh\n(.*?)```", page, re.DOTALL)
    assert block is not None
    commands: list[str] = []
    for part in re.split(r"\n\n+", block[1].strip()):
        if commands and commands[-1].count("END") == 1:
            commands[-1] += "\n\n" + part  # inside the file that a command writes
        else:
            commands.append(part)
    return commands


@pytest.mark.timeout(300)
def test_the_tour_ends_with_a_proven_message(tmp_path: Path) -> None:
    copy_of_the_checkout(tmp_path)
    (tmp_path / "audit.log").write_bytes(SEED.read_bytes())
    environment = {**os.environ, **for_pip(str(wheels()))}
    with Rsyslog("imtcp") as rsyslog, Sshd([f"PermitOpen 127.0.0.1:{rsyslog.port}"]) as sshd:
        here = {
            r"^python3\b": DEBIANS_PYTHON,
            r"key trust 172\.18\.4\.99": f"key trust {sshd.host}:{sshd.port} --fingerprint {_host_key(sshd)}",
            r"172\.18\.4\.99": sshd.host,
            r"server-port = 22\b": f"server-port = {sshd.port}",
            r"remote-port = 9999": f"remote-port = {rsyslog.port}",
            r'username = "relay"': f'username = "{sshd.user}"',
            r"/etc/relay": f"{tmp_path}/etc",
            r"/var/lib/relay|/var/log/audit": str(tmp_path),
            # If port 7777 is in use, test-connection warns, which is not tested here.
            r"7777": str(free_port()),
        }
        commands = tour()
        assert len(commands) == COMMANDS
        answers = []
        for command in commands:
            text = command
            for pattern, replacement in here.items():
                text = re.sub(pattern, replacement, text)
            done = subprocess.run(
                ["bash", "-euc", text],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=240,  # one of them installs relay
                check=False,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
            answers.append(done.stdout)
            if "key generate" in command:
                sshd.authorized_keys.write_text(done.stdout)
        # test-connection's own message, the opening of the run, then every event of the log
        messages = rsyslog.wait_for_messages(28)
    assert "restrict,port-forwarding,permitopen=" in answers[2]
    assert "proof" in answers[4]
    assert len([message for message in messages if b'type="audit"' in message]) == 26


def _host_key(sshd: Sshd) -> str:
    return fingerprint(sshd.host_keys[0].with_suffix(".pub"))
