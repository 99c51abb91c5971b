"""`relay config import`, and how `config show` and the choice of a router work on the whole command line."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from relay.cli import main
from relay.config.configuration import read_settings

EXAMPLES = Path(__file__).parent / "ssr"
ROUTERS = str(EXAMPLES / "two-routers.cfg")


@pytest.fixture
def secure(tmp_path: Path) -> str:
    """Both examples of secure transport in one file, as an engineer would paste them."""
    names = ("secure-transport-port-forwarding", "secure-transport-server")
    file = tmp_path / "router.cfg"
    file.write_text("".join((EXAMPLES / f"{name}.cfg").read_text() for name in names))
    return str(file)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_import_prints_the_meaning_of_the_file(capsys: pytest.CaptureFixture[str], secure: str, tmp_path: Path) -> None:
    code, out, err = run(capsys, "config", "import", secure)
    assert (code, err) == (0, "")
    assert (
        out.replace(secure, "router.cfg")
        == """\
# Made by relay config import, from router.cfg
[relay]
router = "combo1"  # router.cfg:3
node = "test1"  # router.cfg:4

[[source]]
name = "audit"  # not in router.cfg: a router's audit trail is auditd's log
type = "audit-log"  # not in router.cfg: a router's audit trail is auditd's log

[[port-forwarding]]
local-address = "127.0.0.1"  # router.cfg:7
local-port = 7777  # router.cfg:8
remote-host = "127.0.0.1"  # router.cfg:10
remote-port = 9999  # router.cfg:11
server-address = "172.18.4.99"  # router.cfg:12
server-port = 22  # router.cfg:13

[[remote-logging-server]]
address = "127.0.0.1"  # router.cfg:25
port = 7777  # router.cfg:26
protocol = "auditd"  # not in router.cfg: routers use it
"""
    )
    made = tmp_path / "relay.toml"
    made.write_text(out)
    assert read_settings([str(made)]) == read_settings([secure])


def test_the_router_can_be_chosen_before_and_after_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "config", "import", ROUTERS)
    assert code == 78
    assert 'has 2 routers: "edge", "hub"; choose one with `--router NAME`' in err
    before = run(capsys, "--router", "edge", "--node", "edge-b", "config", "import", ROUTERS)
    after = run(capsys, "config", "import", ROUTERS, "--router", "edge", "--node", "edge-b")
    assert before == after
    assert before[0] == 0
    assert tomllib.loads(before[1])["port-forwarding"][0]["server-address"] == "172.18.4.100"


def test_every_command_that_reads_the_configuration_takes_the_choice(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`relay events` has a --router of its own, so the choice comes before the command."""
    over = tmp_path / "relay.toml"
    over.write_text(f"[relay]\nstate-directory = '{tmp_path}/none'\n")
    choice = ("--router", "edge", "--node", "edge-a")
    for command in (("status",), ("spool", "show"), ("test-connection",), ("key", "generate")):
        code, _, err = run(capsys, *command, "-c", ROUTERS, "-c", str(over), *choice)
        assert code not in {64, 70, 78}, (command, err)
    code, _, err = run(capsys, *choice, "-c", ROUTERS, "-c", str(over), "events", "--router", "edge")
    assert code not in {64, 70, 78}, err


def test_show_prints_the_origin_of_each_value(capsys: pytest.CaptureFixture[str], secure: str, tmp_path: Path) -> None:
    over = tmp_path / "keys.toml"
    over.write_text("[[port-forwarding]]\nusername = 'audit'\n")
    code, out, _ = run(capsys, "config", "show", "-c", secure, "-c", str(over))
    lines = out.replace(secure, "router.cfg").splitlines()
    assert code == 0
    assert 'protocol = "auditd"  # not in router.cfg: routers use it' in lines
    assert "type = \"audit-log\"  # not in router.cfg: a router's audit trail is auditd's log" in lines
    assert 'server-address = "172.18.4.99"  # router.cfg:12' in lines
    assert 'username = "audit"' in lines
    assert 'transport = "tcp"' in lines
    assert tomllib.loads(out)["relay"]["router"] == "combo1"


def test_show_as_json_has_the_origins_by_their_keys(capsys: pytest.CaptureFixture[str], secure: str) -> None:
    document = json.loads(run(capsys, "config", "show", "--json", "-c", secure)[1])
    origins = {each["key"]: each["origin"].replace(secure, "router.cfg") for each in document["origins"]}
    assert origins["remote-logging-server[1].protocol"] == "not in router.cfg: routers use it"
    assert origins["relay.router"] == "router.cfg:3"


def test_import_prints_its_warnings_on_standard_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "router.cfg"
    text = (EXAMPLES / "retention.cfg").read_text()
    file.write_text(text.replace("retention 1d", "retention 1d\n                    col\x1bour red"))
    code, out, err = run(capsys, "config", "import", str(file))
    assert (code, tomllib.loads(out)["audit"]) == (0, {"retention": "1d"})
    assert err == f"warning: {file}:7: audit > col\\x1bour: relay has no such setting; ignored\n"
    document = json.loads(run(capsys, "config", "import", "--json", str(file))[1])
    assert (document["schema"], document["settings"]["audit"]) == ("relay.config-import/1", {"retention": "1d"})
    assert [warning["line"] for warning in document["warnings"]] == [7]


def test_a_folder_of_the_monitoring_agent_is_imported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for folder in ("inputs", "outputs"):
        (tmp_path / folder).mkdir()
    for name in ("config.yaml", "inputs/traffic-events.conf", "outputs/my-syslog.conf"):
        (tmp_path / name).write_text((EXAMPLES / "monitoring" / name).read_text().replace("<ip>", "192.0.2.7"))
    code, out, _ = run(capsys, "config", "import", str(tmp_path))
    assert code == 0
    document = tomllib.loads(out)
    assert document["source"][0]["tagpass"] == {"type": ["traffic"]}
    assert document["audit"] == {"traffic": {"enabled": True, "persist": False}, "sd-id": "128T"}
    assert "what it sends to a server includes traffic" in out


def test_a_missing_file_ends_with_66(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "config", "import", str(tmp_path / "missing"))[0] == 66


def test_a_mistake_ends_with_78_and_prints_no_toml(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "router.cfg"
    file.write_text((EXAMPLES / "retention.cfg").read_text().replace("1d", "for ever"))
    code, out, err = run(capsys, "config", "import", str(file))
    assert (code, out) == (78, "")
    assert err == f'relay: {file}:6: audit.retention: needs one value, not "for ever"\n'


def test_import_reads_its_file_alone(capsys: pytest.CaptureFixture[str], secure: str) -> None:
    code, _, err = run(capsys, "config", "import", secure, "-c", secure)
    assert (code, "FILE alone is read; leave -c out" in err) == (64, True)


# --- Certificates ------------------------------------------------------------------------------------------


def test_import_prints_certificates_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "config", "import", str(EXAMPLES / "syslog-over-tls.cfg"))
    assert code == 0
    ca, *_ = (server["ca"] for server in tomllib.loads(out)["remote-logging-server"])
    assert ca.splitlines()[0] == "-----BEGIN CERTIFICATE-----"
    assert ca in out
    assert "put its key into /etc/relay/client-certificate-edge-client.key with mode 0600" in err


# --- The real entry ----------------------------------------------------------------------------------------


def test_a_file_that_is_not_utf_8_causes_no_traceback(tmp_path: Path) -> None:
    """In a process of its own, with the real entry point and a closed pipe."""
    file = tmp_path / "router.cfg"
    file.write_bytes(b"config\n    router r\n        \xff\xfe\n")
    command = [sys.executable, "-m", "relay", "config", "import", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"relay: {file}:3: is not UTF-8: byte 28 is 0xff\n"
