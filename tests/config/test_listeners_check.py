"""The findings of `config check` about addresses and paths on which a program listens."""

import subprocess
import sys
from pathlib import Path

import pytest

from relay.config.check.check import CheckFindings, check
from relay.config.check.listeners import warn_of_open_listeners
from relay.config.configuration import read_configuration

ROUTER = """\
[[source]]
name = "syslog"
type = "syslog"
listen = {listen}
[[source]]
name = "audisp"
type = "auditd-remote"
[[remote-logging-server]]
address = "192.0.2.1"
transport = "tcp"
[[port-forwarding]]
local-port = 7777
server-address = "192.0.2.1"
"""


def findings(folder: Path, text: str) -> CheckFindings:
    file = folder / "relay.toml"
    file.write_text(f'[relay]\nstate-directory = "{folder}/state"\n{text}')
    return check(read_configuration([str(file)]))


def about_listeners(found: tuple[object, ...]) -> list[str]:
    return [text.partition("relay.toml:")[2] for text in map(str, found) if "listen" in text]


@pytest.mark.parametrize(
    ("listen", "mistakes"),
    [
        ('["tcp://127.0.0.1:601", "udp://127.0.0.1:7777", "udp://[::]:7777", "tcp://192.0.2.1:7777"]', []),
        ('["tcp://0.0.0.0:7778", "tcp://[::]:7777"]', ["source[2].listen[1]: tcp://127.0.0.1:7778 is taken by"]),
        ('["udp://0.0.0.0:5514", "udp://127.0.0.1:5514"]', ["source[1].listen[2]: udp://127.0.0.1:5514 is taken by"]),
        ('["unix:///tmp/s", "unix-datagram:///tmp/s"]', ["source[1].listen[2]: unix-datagram:///tmp/s is taken by"]),
    ],
)
def test_an_address_that_two_listeners_claim_is_a_mistake(tmp_path: Path, listen: str, mistakes: list[str]) -> None:
    found = findings(tmp_path, ROUTER.format(listen=listen))
    sentences = [
        text for text in about_listeners(found.mistakes) if "is taken" in text and ".listen[" in text.partition(":")[2]
    ]
    taken = [text.partition(": ")[2] for text in sentences]
    assert len(taken) == len(mistakes)
    assert all(text.startswith(start) for text, start in zip(taken, mistakes, strict=True))


def test_the_local_end_of_a_port_forwarding_is_claimed_too(tmp_path: Path) -> None:
    found = findings(tmp_path, ROUTER.format(listen='["tcp://localhost:7777"]'))
    (sentence,) = [str(each) for each in found.mistakes if "is taken" in str(each)]
    assert "port-forwarding[1].local-port: tcp://127.0.0.1:7777 is taken by source[1].listen[1] already" in sentence


def test_the_receivers_listeners_ssh_tls_and_metrics_are_compared(tmp_path: Path) -> None:
    text = (
        '[receiver]\nlisten = ["tcp://0.0.0.0:6514", "udp://0.0.0.0:6514"]\n[receiver.tls]\nlisten = "127.0.0.1:6514"\n'
    )
    found = findings(tmp_path, text + '[metrics]\nlisten = "127.0.0.1:9464"\n[receiver.ssh]\nlisten = "0.0.0.0:9464"\n')
    sentences = [str(each) for each in found.mistakes if "is taken" in str(each)]
    assert len(sentences) == 2
    assert "receiver.ssh.listen: tcp://0.0.0.0:9464 is taken by metrics.listen already" in sentences[0]
    assert "receiver.tls.listen: tcp://127.0.0.1:6514 is taken by receiver.listen[1] already" in sentences[1]


def test_a_file_at_a_sockets_path_is_a_mistake_and_a_missing_folder_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    listen = f'["unix://{tmp_path}/file", "unix-datagram://{tmp_path}/none/log"]'
    found = findings(tmp_path, f"[receiver]\nlisten = {listen}\n")
    assert [str(each) for each in found.mistakes if "is not a socket" in str(each)]
    assert [str(each) for each in found.warnings if "none does not exist yet" in str(each)]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ('[receiver]\nlisten = ["tcp://127.0.0.1:1514", "tcp://localhost:1515", "udp://[::1]:1514"]\n', []),
        ('[receiver]\nlisten = ["unix:///run/x", "unix-datagram:///run/y"]\n', []),
        ('[receiver]\nlisten = ["tcp://0.0.0.0:1514", "udp://[::]:1514"]\n', ["listen[1]", "listen[2]"]),
        ('[receiver]\nlisten = ["tcp://127.0.0.1:1", "tcp://loghost.example:1514"]\n', ["listen[2]"]),
        ('[receiver]\nlisten = ["tcp://192.0.2.7:1514"]\n[receiver.ssh]\nlisten = "0.0.0.0:22"\n', ["listen[1]"]),
        (
            (
                '[receiver]\nrequire-identity = true\nlisten = ["tcp://0.0.0.0:1514"]\n'
                '[receiver.ssh]\nlisten = "0.0.0.0:2222"\nhost-key = "/x"\nauthorized-keys = "/x"\n'
            ),
            [],
        ),
        ('[receiver]\n[metrics]\nlisten = "0.0.0.0:9464"\n', ["metrics.listen"]),
        (ROUTER.format(listen='["tcp://0.0.0.0:5514"]'), ["source[1].listen[1]"]),
        (ROUTER.format(listen='["tcp://127.0.0.1:5514"]'), []),
    ],
)
def test_a_listener_that_other_machines_reach_without_tls_or_ssh_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, warned: list[str]
) -> None:
    found = findings(tmp_path, text)
    sentences = [str(each) for each in found.warnings if "without TLS or SSH" in str(each)]
    assert len(sentences) == len(warned)
    assert all(f"{key}: " in sentence for key, sentence in zip(warned, sentences, strict=True))
    settings = read_configuration([str(tmp_path / "relay.toml")]).settings
    warn_of_open_listeners(settings, "receive" if "[receiver]" in text else "run")
    assert len(caplog.records) == bool(warned), "the log has one line at the start"


def test_a_port_below_1024_without_the_right_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('[receiver]\nlisten = ["udp://0.0.0.0:514"]\n')
    command = [sys.executable, "-m", "relay", "config", "check", "-c", str(tmp_path / "relay.toml")]
    without = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
    done = subprocess.run([*without, *command], capture_output=True, text=True, timeout=60, check=False)
    assert "port 514 needs CAP_NET_BIND_SERVICE, which this user does not have" in done.stdout + done.stderr
    assert "relay-receive.service grants it" in done.stdout + done.stderr
