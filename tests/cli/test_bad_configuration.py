"""Every command that reads a configuration, with every kind of wrong one: no traceback, a sysexits code, one cause.

The test walks the command line to find the commands, so that it tries new ones too. Each runs in its own process: as a
user starts it where the file cannot be read, and forked from a server where it can.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from harness.forked_relay import ForkedRelay
from harness.openssh import generate_key
from harness.ports import free_port
from harness.process import Process
from harness.relay import RELAY
from harness.rights import WITHOUT_ROOTS_RIGHTS
from harness.waiting import wait_until

from relay.cli.commands import root

ARGUMENTS = {"HOST[:PORT]": "127.0.0.1:1", "FILE": "/nonexistent/file", "DIR": "/nonexistent/folder"}
"""Values of required arguments and options, by metavar."""
WITHOUT_CONFIGURATION: dict[str, str] = {"relay config import": "it reads its FILE alone, and refuses -c"}
"""Commands that accept -c and read no configuration, with the reason."""
OWN_REPORT = {"relay config check", "relay test-connection"}
"""Commands that report a wrong configuration in their own form."""
LOCKS_THE_STATE = {"relay run", "relay receive"}


class Command(NamedTuple):
    """One command that accepts -c."""

    name: str
    arguments: tuple[str, ...]
    has_json: bool

    def words(self, configuration: Path) -> list[str]:
        words = self.name.split()[1:]
        return [*words, *self.arguments, "-c", str(configuration), *["--json"] * self.has_json]


def found(root: click.Command, name: str = "relay") -> Iterator[Command]:
    context = click.Context(root, info_name=name)
    if isinstance(root, click.Group):
        for word in root.list_commands(context):
            command = root.get_command(context, word)
            assert command is not None
            yield from found(command, f"{name} {word}")
    elif any("--config" in parameter.opts for parameter in root.params) and name not in WITHOUT_CONFIGURATION:
        arguments = tuple(
            word
            for parameter in root.params
            if parameter.required
            for word in (
                *parameter.opts[:1] * isinstance(parameter, click.Option),
                ARGUMENTS[parameter.make_metavar(context)],
            )
        )
        yield Command(name, arguments, any("--json" in parameter.opts for parameter in root.params))


COMMANDS = list(found(root))
every_command = pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])


class Outcome(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def as_object(self) -> dict[str, Any]:
        parsed = json.loads(self.stdout)
        assert isinstance(parsed, dict)
        return parsed


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedRelay]:
    with ForkedRelay(tmp_path_factory.mktemp("forked")) as server:
        yield server


def run(command: Command, configuration: Path, forked: ForkedRelay) -> Outcome:
    """Run a command to its end, with --json if it has that option."""
    return _outcome(forked.run(command.words(configuration)))


def run_as_a_user(command: Command, configuration: Path, *, prefix: Sequence[str] = ()) -> Outcome:
    """The same, by `python -m relay`."""
    argv = [*prefix, *RELAY, *command.words(configuration)]
    return _outcome(
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    )


def _outcome(done: subprocess.CompletedProcess[str]) -> Outcome:
    assert "Traceback" not in done.stderr + done.stdout
    return Outcome(done.returncode, done.stdout, done.stderr)


def assert_no_input(command: Command, outcome: Outcome, sentence: str, *, code: int = 66) -> None:
    """The command ends with that code and that sentence."""
    if command.name == "relay test-connection":
        assert (outcome.code, outcome.as_object["exit_code"]) == (78, 78)
        assert sentence in outcome.as_object["sentence"]
        return
    assert outcome.code == code
    assert outcome.stderr.startswith(f"relay: {sentence}; ")
    assert outcome.stderr.count("\n") == 1
    if command.has_json:
        assert outcome.as_object["schema"] == "relay.error/1"
        assert f"{outcome.as_object['what']}: {outcome.as_object['cause']}" == sentence


def assert_mistakes(command: Command, configuration: Path, forked: ForkedRelay, *sentences: str) -> None:
    """The command ends with 78 and reports exactly these mistakes, as text and as JSON."""
    outcome = run(command, configuration, forked)
    expected = [f"{configuration}{sentence}" for sentence in sentences]
    assert outcome.code == 78
    if command.name in OWN_REPORT:
        assert all(json.dumps(sentence.rpartition(": ")[2])[1:-1] in outcome.stdout for sentence in sentences)
        return
    assert outcome.stderr.splitlines() == [f"relay: {line}" for line in expected]
    if command.has_json:
        assert outcome.as_object["schema"] == "relay.error/1"
        mistakes = outcome.as_object["mistakes"]
        assert {mistake["file"] for mistake in mistakes} == {str(configuration)}
        assert all(line.endswith(mistake["message"]) for line, mistake in zip(expected, mistakes, strict=True))
    else:
        assert outcome.stdout == ""


def test_the_main_commands_are_among_those_tried() -> None:
    names = {command.name for command in COMMANDS}
    assert {"relay run", "relay receive", "relay status", "relay config check", "relay key trust"} <= names


@every_command
def test_a_missing_configuration_is_66(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "missing.toml"
    assert_no_input(command, run_as_a_user(command, file), f"{file}: there is no such file")


@every_command
def test_a_configuration_that_this_user_is_not_allowed_to_read_is_77(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("")
    file.chmod(0)
    outcome = run_as_a_user(command, file, prefix=WITHOUT_ROOTS_RIGHTS)
    assert_no_input(command, outcome, f"cannot read {file}: permission denied", code=77)


@every_command
def test_a_folder_is_not_a_configuration(command: Command, tmp_path: Path, forked: ForkedRelay) -> None:
    assert_no_input(command, run(command, tmp_path, forked), f"{tmp_path}: it is a folder")


@every_command
def test_an_empty_configuration_is_a_mistake(command: Command, tmp_path: Path, forked: ForkedRelay) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("\n")
    assert_mistakes(command, file, forked, ": is empty; start from the sample deploy/relay.toml")


@every_command
def test_a_binary_configuration_is_a_mistake(command: Command, tmp_path: Path, forked: ForkedRelay) -> None:
    file = tmp_path / "relay.toml"
    file.write_bytes(b"\x7fELF" + bytes(range(256)))
    assert_mistakes(command, file, forked, ": is not a text file: it contains zero bytes")


@every_command
def test_a_configuration_in_another_encoding_is_a_mistake(
    command: Command, tmp_path: Path, forked: ForkedRelay
) -> None:
    file = tmp_path / "relay.toml"
    file.write_bytes('[relay]\nnode = "Zürich"\n'.encode("latin-1"))
    assert_mistakes(command, file, forked, ":2: is not UTF-8: byte 17 is 0xfc")


@pytest.fixture(scope="module")
def hundred_megabytes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that is wrong only in its size; the file is sparse."""
    file = tmp_path_factory.mktemp("large") / "relay.toml"
    with file.open("wb") as out:
        out.write(b"[relay]\n")
        out.truncate(100_000_000)
    return file


@every_command
def test_a_configuration_of_100_mb_is_a_mistake(command: Command, hundred_megabytes: Path, forked: ForkedRelay) -> None:
    sentence = (
        ": is larger than 4 MiB, the most that relay reads; of a configuration with many routers, save one router "
        "(`show config running authority router NAME`)"
    )
    assert_mistakes(command, hundred_megabytes, forked, sentence)


@every_command
def test_for_an_unknown_key_the_nearest_known_one_is_named(
    command: Command, tmp_path: Path, forked: ForkedRelay
) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('[relay]\nhostnam = "a"\n\n[[remote-logging-server]]\nportt = 7777\n')
    assert_mistakes(
        command,
        file,
        forked,
        ":2: relay.hostnam: unknown key; did you mean `hostname`?",
        ":5: remote-logging-server[1].portt: unknown key; did you mean `port`?",
    )


@every_command
def test_settings_that_contradict_each_other_are_mistakes(
    command: Command, tmp_path: Path, forked: ForkedRelay
) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('[spool]\nmax-size = "1MiB"\n[[source]]\nname = "a"\n[[source]]\nname = "a"\n')
    assert_mistakes(
        command,
        file,
        forked,
        ":2: spool.max-size: must be at least 64MiB, 4 segments of 16MiB (segment-size), not 1MiB",
        ':6: source[2].name: "a" occurs a second time; every source needs a name of its own',
    )


@pytest.mark.parametrize(
    ("program", "text", "mistake"),
    [
        (
            "receive",
            '[receiver]\nzone = "Mars"\n',
            ':4: receiver.zone: this machine does not know the time zone "Mars"; ',
        ),
        (
            "run",
            (
                '[relay]\nalarm-command = ["/no/such"]\n[[source]]\nname = "audit"\npath = "/x"\n'
                '[[remote-logging-server]]\nport = 1\nprotocol = "relp"\n'
            ),
            ':3: relay.alarm-command: "/no/such" is not a program that relay\'s user can run; ',
        ),
    ],
)
def test_a_mistake_that_only_a_start_finds_has_its_line(program: str, text: str, mistake: str, tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    state = f'state-directory = "{tmp_path}/state"\n'
    file.write_text(text.replace("[relay]\n", f"[relay]\n{state}") if "[relay]" in text else f"[relay]\n{state}{text}")
    done = subprocess.run([*RELAY, "-c", str(file), program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    assert done.stderr.startswith(f"relay: {file}{mistake}")
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Process]]:
    """A correct configuration whose state directory a running relay uses, and that relay."""
    folder = tmp_path_factory.mktemp("busy")
    key = generate_key(folder / "id")
    file = folder / "relay.toml"
    file.write_text(
        f'[relay]\nstate-directory = "{folder}/state"\n'
        f'[[source]]\nname = "audit"\npath = "{folder}/audit.log"\n'
        f'[[port-forwarding]]\nserver-address = "127.0.0.1"\nserver-port = 1\nprivate-key = "{key}"\n'
        f'known-hosts = "{folder}/known_hosts"\n[[remote-logging-server]]\n'
        f'[receiver]\nlisten = ["tcp://127.0.0.1:{free_port()}"]\narchive = "{folder}/archive"\n'
    )
    (folder / "audit.log").write_text("")
    (folder / "known_hosts").write_text("")
    with Process([*RELAY, "-c", str(file), "receive"], folder / "receive.log") as process:
        lock = folder / "state" / "lock"
        wait_until(lambda: lock.exists() and lock.read_text() == f"{process.pid}\n", 60, lambda: process.log)
        yield file, process


@pytest.mark.parametrize("name", sorted(LOCKS_THE_STATE))
def test_a_state_directory_in_use_is_refused_with_the_pid_of_its_relay(
    name: str, busy: tuple[Path, Process], forked: ForkedRelay
) -> None:
    file, running = busy
    (command,) = (command for command in COMMANDS if command.name == name)
    outcome = run(command, file, forked)
    assert outcome.code == 75
    assert f"in use by the process with pid {running.pid}; " in outcome.stderr
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize("name", sorted({command.name for command in COMMANDS} - LOCKS_THE_STATE))
def test_every_other_command_leaves_a_running_relay_alone(
    name: str, busy: tuple[Path, Process], forked: ForkedRelay
) -> None:
    file, running = busy
    (command,) = (command for command in COMMANDS if command.name == name)
    assert run(command, file, forked).code in {0, *range(64, 79)} - {70}
    assert running.running
