"""`relay config check` and `relay config show`, as a user calls them."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from relay.cli.commands import config_group
from relay.cli.options import Options, config_option, options
from relay.config.configuration import read_settings
from relay.errors import ConfigurationError, NoInputError
from relay.transport.ssh import private_key


@click.group()
@config_option
def relay() -> None:
    """A command line with the command `config` alone."""


relay.add_command(config_group)


@relay.command()
@config_option
@click.pass_context
def options_shown(context: click.Context) -> None:
    shared = options(context)
    click.echo(json.dumps([shared.config_paths, shared.verbosity]))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(relay, arguments)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration without findings: its key, its known host and its log exist."""
    (tmp_path / "audit.log").write_text("")
    key = private_key.public_key(private_key.generate(str(tmp_path / "id")))
    (tmp_path / "known_hosts").write_text(f"log.example {key.text}\n")
    path = tmp_path / "relay.toml"
    path.write_text(f"""\
[relay]
state-directory = "{tmp_path}/state"
[[source]]
name = "audit"
path = "{tmp_path}/audit.log"
[[port-forwarding]]
server-address = "log.example"
private-key = "{tmp_path}/id"
known-hosts = "{tmp_path}/known_hosts"
[[remote-logging-server]]
""")
    return path


def test_a_correct_configuration_gets_one_sentence(file: Path) -> None:
    result = run("config", "check", "-c", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        f"{file}: no mistakes; relay run: from {file.parent}/audit.log (audit) to 127.0.0.1:7777 through SSH to "
        "relay@log.example\n"
    )


def test_a_receivers_configuration_gets_one_sentence(file: Path) -> None:
    file.write_text('[receiver]\narchive = "/srv/log"\n')
    result = run("config", "check", "-c", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{file}: no mistakes; relay receive: from tcp://127.0.0.1:9999 to /srv/log\n"
    result = run("config", "check", "--for", "run", "-c", str(file))
    assert result.exit_code == 78
    assert "nothing to forward: no source and no server in" in result.stderr


def test_show_prints_warnings_on_standard_error(file: Path) -> None:
    file.write_text(file.read_text() + "[audit]\ntraffic = { enabled = true }\n")
    result = run("config", "show", "-c", str(file))
    assert result.exit_code == 0
    assert result.stderr.startswith(
        f"warning: {file}:12: audit.traffic.enabled: traffic events are enabled, and no source"
    )
    (warning,) = json.loads(run("config", "show", "--json", "-c", str(file)).stdout)["warnings"]
    assert warning["key"] == "audit.traffic.enabled"


def test_every_mistake_is_a_line_on_standard_error_and_the_exit_code_is_78(file: Path) -> None:
    file.write_text("[relay]\nnode = 1\n[spool]\nmax-sizes = 1\n[metric]\n")
    result = run("config", "check", "-c", str(file))
    assert (result.exit_code, result.stdout) == (78, "")
    assert result.stderr.splitlines() == [
        f"{file}:2: relay.node: must be a text in quotes, not 1",
        f"{file}:4: spool.max-sizes: unknown key; did you mean `max-size`?",
        f"{file}:5: metric: unknown key; did you mean `metrics`?",
    ]


def test_warnings_do_not_fail_the_check(file: Path) -> None:
    (file.parent / "audit.log").unlink()
    result = run("config", "check", "-c", str(file))
    assert result.exit_code == 0
    assert result.stderr == (
        f"warning: {file}:5: source[1].path: {file.parent}/audit.log does not exist yet; relay waits for it\n"
    )


def test_mistakes_as_json_have_their_parts(file: Path) -> None:
    file.write_text('[relay]\nnode = 1\n[[source]]\nname = "a"\ntype = "journal"\n')
    result = run("config", "check", "--json", "-c", str(file))
    assert result.exit_code == 78
    assert result.stderr == ""
    assert json.loads(result.stdout) == {
        "schema": "relay.config-check/1",
        "ok": False,
        "files": [str(file)],
        "for": [],
        "mistakes": [
            {"file": str(file), "line": 2, "key": "relay.node", "message": "must be a text in quotes, not 1"},
            {
                "file": str(file),
                "line": 5,
                "key": "source[1].type",
                "message": 'must be "audit-log", "audit-dispatcher", "auditd-remote", "event-collector" or "syslog", '
                'not "journal"',
            },
        ],
        "warnings": [],
    }


def test_a_correct_configuration_as_json_is_ok(file: Path) -> None:
    result = run("config", "check", "--json", "-c", str(file))
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["ok"], found["for"]) == (True, ["run"])


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_missing_file_exits_with_66(command: str, tmp_path: Path) -> None:
    """The main entry prints it, and ends with its exit code 66."""
    result = run("config", command, "-c", str(tmp_path / "missing.toml"))
    assert isinstance(result.exception, NoInputError)


def test_show_fails_with_the_mistakes(file: Path) -> None:
    file.write_text("x = 1")
    assert isinstance(run("config", "show", "-c", str(file)).exception, ConfigurationError)


def test_what_show_prints_reads_back_to_the_same_settings(tmp_path: Path) -> None:
    file, shown = tmp_path / "relay.toml", tmp_path / "shown.toml"
    file.write_text("""\
relay.node = 'a "b" \\ é'
audit = { traffic = { enabled = true } }
spool = { commit-interval = "1500ms", max-size = "100MB", segment-size = "2MB" }
source = [{ name = "a" }, { name = "b", start = "now" }]
port-forwarding = [{ server-address = "::1" }]
remote-logging-server = [{ types = ["log"] }, { address = "log.example", max-message-size = 481 }]
receiver = { listen = ["[::1]:1", "tcp://a:0"], ssh = { listen = "0.0.0.0:22" } }
""")
    result = run("config", "show", "-c", str(file))
    assert result.exit_code == 0
    shown.write_text(result.stdout)
    assert read_settings([str(shown)]) == read_settings([str(file)])


def test_show_prints_defaults_too(file: Path) -> None:
    result = run("config", "show", "-c", str(file))
    assert result.stdout.startswith(f"# The settings in effect, from {file}\n")
    assert '\n[relay]\nhostname = ""\n' in result.stdout
    assert "\nlocal-port = 7777\n" in result.stdout
    assert 'commit-interval = "10ms"' in result.stdout
    assert "traffic = { enabled = false, persist = false }" in result.stdout


def test_show_as_json_has_the_same_keys_and_values(file: Path) -> None:
    document = json.loads(run("config", "show", "--json", "-c", str(file)).stdout)
    assert (document["schema"], document["files"]) == ("relay.config-show/1", [str(file)])
    assert document["settings"]["spool"]["max-size"] == "2GiB"
    assert document["settings"]["source"][0]["name"] == "audit"


def test_the_shared_options_work_before_and_after_the_command() -> None:
    result = run("-v", "-c", "a", "--config", "b", "options-shown", "-c", "c", "-vv")
    assert json.loads(result.stdout) == [["a", "b", "c"], 3]


def test_without_an_option_the_environment_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_CONFIG", "/srv/relay.toml")
    assert Options().config_paths == ("/srv/relay.toml",)
    assert Options(given_config_paths=("a",)).config_paths == ("a",)
    monkeypatch.setenv("RELAY_CONFIG", "")
    assert Options().config_paths == ("/etc/relay/relay.toml",)


def test_files_named_on_both_sides_are_one_configuration(file: Path, tmp_path: Path) -> None:
    over = tmp_path / "over.toml"
    over.write_text('[relay]\nnode = "n"\n')
    result = run("config", "-c", str(file), "show", "-c", str(over), "--json")
    document = json.loads(result.stdout)
    assert document["files"] == [str(file), str(over)]
    assert document["settings"]["relay"]["node"] == "n"
    assert document["settings"]["source"][0]["name"] == "audit"
