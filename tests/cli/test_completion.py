"""Shell completion, in a real bash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness.relay import RELAY

# Like bash at a Tab, without a terminal: it calls the function that is registered for the command.
TAB = """
    source /dev/stdin <<< "$1"; shift
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
    compopt() { echo "compopt" "$@"; }
    function=$(complete -p relay); function=${function#*-F }; "${function%% *}" relay "${@: -1}" "${@: -2:1}"
    printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(shell: str) -> str:
    return subprocess.run([*RELAY, "completion", shell], capture_output=True, text=True, timeout=60, check=True).stdout


def at_tab(*words: str) -> list[str]:
    """The words that bash offers when Tab is pressed after these words; it asks the relay under test."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    argv = ["bash", "--norc", "-c", TAB, "bash", script("bash"), *words]
    done = subprocess.run(
        argv, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("relay", "stat"), ["status"]),
        (("relay", "config", ""), ["check", "show"]),
        (("relay", "key", "trust", "--fi"), ["--fingerprint"]),
        (("relay", "key", "generate", "--type", "e"), ["ed25519", "ecdsa"]),
        (("relay", "completion", "b"), ["bash"]),
        (("relay", "events", "--f"), ["--field", "--failed", "--from"]),
        (("relay", "events", "--severity", "warn"), ["warning"]),
        (("relay", "events", "--type", "a"), ["admin", "audit", "alarm"]),
        (("relay", "spool", "cat", "--type", "tr"), ["traffic"]),
    ],
)
def test_bash_completes_commands_options_and_choices(words: tuple[str, ...], offered: list[str]) -> None:
    assert set(offered) <= set(at_tab(*words))


def test_bash_completes_names_of_files_itself() -> None:
    assert "compopt -o default" in at_tab("relay", "-c", "")


@pytest.mark.parametrize(("shell", "words"), [("zsh", "#compdef relay"), ("fish", "--command relay")])
def test_there_is_a_script_for_the_other_shells(shell: str, words: str) -> None:
    assert words in script(shell)


def test_another_shell_is_a_usage_error() -> None:
    done = subprocess.run([*RELAY, "completion", "csh"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 64
    assert "bash" in done.stderr
