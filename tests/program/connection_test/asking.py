"""Runs `relay test-connection --json`, and reads its answer."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.forked_relay import forked_relay
from harness.relay import RELAY

STEPS = [
    "configuration",
    "state directory",
    "private key",
    "name resolution",
    "TCP connection",
    "SSH banner",
    "key exchange",
    "host key",
    "authentication",
    "local port",
    "forward",
    "test message",
    "proof",
]
STEPS_BY_TLS = [*STEPS[:-2], "TLS handshake", "certificate", *STEPS[-2:]]
HASTE = ("--timeout", "0.5")
"""When the first awaited event never comes."""
UNHURRIED = ("--timeout", "4")
"""When other events come before it, from programs that may be slow to start."""
_PATIENT = """
import json
import sys
from relay.cli.commands.test_connection import as_object
from relay.program.connection_test.connection_test import run_test
from relay.program.connection_test.test_request import TestRequest, WatchTimes
path, timeout = sys.argv[1:]
watch = WatchTimes(stream=5, tls=60, datagram=60)
report = run_test(TestRequest([path], timeout=float(timeout) if timeout else None, watch=watch), lambda *_: None)
print(json.dumps(as_object(report)))
sys.exit(report.exit_code)
"""


class Answer(NamedTuple):
    """Its report about one server."""

    exit_code: int
    whole: dict[str, Any]

    @property
    def sentence(self) -> str:
        return str(self.whole["sentence"])

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """Every step by its name, in order."""
        server = self.whole["servers"][:1]
        return {step["step"]: step for part in (self.whole, *server) for step in part["steps"]}

    def outcomes(self) -> list[str]:
        return [step["outcome"] for step in self.steps.values()]

    def failure(self, step: str, exit_code: int) -> dict[str, Any]:
        """The failed step; AssertionError unless it is this one, none failed before it, and all after it are skipped.

        A known_hosts file that cannot be read is found before relay connects: then steps before it are skipped.
        """
        names = list(self.steps)
        assert names in (STEPS, STEPS_BY_TLS)
        place = names.index(step)
        outcomes = self.outcomes()
        assert outcomes[place] == "FAILED", self.whole
        assert "FAILED" not in outcomes[:place]
        assert set(outcomes[place + 1 :]) <= {"skipped"}
        failed = self.steps[step]
        assert (self.exit_code, failed["exit_code"], self.whole["exit_code"]) == (exit_code, exit_code, exit_code)
        assert self.whole["ok"] is False
        assert f"{step} failed: " in self.sentence
        assert failed["remedy"]
        return failed


def argv(configuration: Path, *arguments: str) -> list[str]:
    """The command line."""
    return [*RELAY, *_words(configuration, *arguments)]


def _words(configuration: Path, *arguments: str) -> list[str]:
    return ["-c", str(configuration), "test-connection", *arguments]


def ask(configuration: Path, *arguments: str, prefix: Sequence[str] = ()) -> Answer:
    """Run it to its end, as a user would, behind another command if one is given."""
    if prefix:
        return _answer(_ended([*prefix, *argv(configuration, "--json", *arguments)]))
    return _answer(forked_relay().run(_words(configuration, "--json", *arguments)))


def ask_patiently(configuration: Path, *, timeout: str = "", prefix: Sequence[str] = ()) -> Answer:
    """The same, but a collector is watched for longer than a user would wait.

    For a collector that surely does something: a busy machine must not decide which step notices it.
    """
    words = [str(configuration), timeout]
    if prefix:
        return _answer(_ended([*prefix, sys.executable, "-c", _PATIENT, *words]))
    return _answer(forked_relay().run(words, _PATIENT))


def _ended(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def _answer(done: subprocess.CompletedProcess[str]) -> Answer:
    assert done.stderr == ""
    return Answer(done.returncode, json.loads(done.stdout))


def in_namespace(kind: str, script: str) -> list[str]:
    """A command that runs another in a namespace ("net", "mount") of its own, after a shell script run as its root."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, f"--{kind}", "sh", "-ec", f'{script}\nexec "$@"', "sh"]
