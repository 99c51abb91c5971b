"""Environments for several interpreters, and the interpreters and systems under which the tests run.

The real scripts/bootstrap runs in a project of the test's that requires nothing, so nothing is downloaded.
"""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.pythons import CHECKOUT, QUICK, interpreters

SCRIPTS = Path(__file__).parents[1] / "scripts"
PROJECT = """\
[build-system]
requires = []
build-backend = "nothing"
backend-path = ["."]
[project]
name = "empty"
version = "{version}"
[project.optional-dependencies]
test = []
"""
BACKEND = """\
import zipfile
INFO = "empty-1.dist-info"
FILES = {"METADATA": "Metadata-Version: 2.1\\nName: empty\\nVersion: 1\\nProvides-Extra: test\\n",
         "WHEEL": "Wheel-Version: 1.0\\nGenerator: nothing\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
         "RECORD": ""}
def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/empty-1-py3-none-any.whl", "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(f"{INFO}/{name}", text)
    return "empty-1-py3-none-any.whl"
"""


class Checkout:
    """A project with relay's scripts/bootstrap."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "scripts").mkdir(parents=True)
        shutil.copy(SCRIPTS / "bootstrap", folder / "scripts")
        (folder / "nothing.py").write_text(BACKEND)
        self.require("1")
        self.link = folder / ".venv"

    def require(self, version: str) -> None:
        (self.folder / "pyproject.toml").write_text(PROJECT.format(version=version))

    def start(self, **variables: str) -> subprocess.Popen[str]:
        """Run scripts/bootstrap with the Python that runs this test as `python3`."""
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        if not (folder / "python3").exists():
            (folder / "python3").symlink_to(sys.executable)
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        environment.pop("PYTHON")  # see tests/conftest.py
        environment |= variables
        script = self.folder / "scripts" / "bootstrap"
        return subprocess.Popen(
            [script],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def bootstrap(self, **variables: str) -> tuple[Path, str]:
        """Return the environment that it names, and its messages to people."""
        return self.finished(self.start(**variables))

    def finished(self, started: subprocess.Popen[str]) -> tuple[Path, str]:
        out, err = started.communicate(timeout=100)
        assert started.returncode == 0, err
        return Path(out.strip()), err

    def environments(self) -> set[Path]:
        return {path for path in (self.folder / ".venvs").iterdir() if path.is_dir() and not path.is_symlink()}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_an_environment_that_is_in_use_is_never_cleared(checkout: Checkout) -> None:
    # Two runs at once make one environment. For an interpreter that is named, `.venv` stays as it is.
    both = [checkout.start(PYTHON=sys.executable) for _ in range(2)]
    (first, said), (again, said_again) = map(checkout.finished, both)
    assert first == again
    assert first.name.startswith(f"{platform.python_version()}-")
    assert sorted([said, said_again]) == ["", f"installing into .venvs/{first.name}\n"]
    assert not checkout.link.is_symlink()
    assert checkout.bootstrap() == (first, "")
    assert checkout.link.resolve() == first

    # With new requirements another one is made beside it, and programs that run from an older one continue.
    unused, used = (first.with_name(f"{platform.python_version()}-{name}") for name in ("unused", "used"))
    unused.mkdir()
    used.mkdir()
    (used / "python").symlink_to(sys.executable)
    checkout.require("2")
    with running(str(used / "python")), running(str(checkout.link / "bin" / "python")) as by_link:
        second, said = checkout.bootstrap()
        assert f".venv stays as it is, because process {by_link.pid} runs from it" in said
        assert checkout.link.resolve() == first
    assert checkout.environments() == {first, second, used}

    # When no program runs from it, `.venv` leads to the new one; and an existing environment is not made again.
    assert checkout.bootstrap() == (second, "")
    assert checkout.link.resolve() == second
    checkout.require("1")
    assert checkout.bootstrap() == (first, "")
    assert checkout.link.resolve() == first


@contextlib.contextmanager
def running(python: str) -> Iterator[subprocess.Popen[str]]:
    """Start a program that imports something at its end, when the test has done its part."""
    program = "import sys; print('runs', flush=True); sys.stdin.read(); import fractions; print('went on')"
    with subprocess.Popen([python, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        yield process
        assert process.communicate()[0] == "went on\n"


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        ([[3, 10], "3.10.13", "CPython", False, []], ""),
        ([[3, 13], "3.13.0", "PyPy", False, []], "left out, because relay is for CPython with its global lock"),
        ([[3, 13], "3.13.0", "CPython", True, []], "left out, because relay is for CPython with its global lock"),
        ([[3, 13], "3.13.0", "CPython", False, ["ensurepip"]], "left out; on Debian: apt install python3.13-venv"),
    ],
)
def test_an_interpreter_that_cannot_run_the_tests_is_left_out_and_reported(
    machine: Path, capsys: pytest.CaptureFixture[str], answer: list[object], refusal: str
) -> None:
    path = machine / "path" / "python3.13"
    install(path, answer)
    assert [found.version for found in interpreters()] == [platform.python_version()]
    assert capsys.readouterr().err == (f"{path}: {refusal}\n" if refusal else "")


def test_interpreters_are_found_on_path_and_among_those_of_pyenv_and_uv(machine: Path) -> None:
    """Each version once, the oldest first; a name that leads nowhere is skipped."""
    install(machine / "path" / "python3.99", [[3, 99], "3.99.10", "CPython", False, []])
    install(machine / "pyenv" / "versions" / "3.99.9" / "bin" / "python3", [[3, 99], "3.99.9", "CPython", False, []])
    install(machine / "uv" / "cpython-3.98.0" / "bin" / "python3", [[3, 98], "3.98.0", "CPython", False, []])
    install(machine / "uv" / "cpython-3.99.9" / "bin" / "python3", [[3, 99], "3.99.9", "CPython", False, []])
    shim = machine / "path" / "python3.97"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.97: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    versions = [found.version for found in interpreters()]
    assert versions == [platform.python_version(), "3.98.0", "3.99.9", "3.99.10"]


def install(path: Path, answer: list[object]) -> None:
    """Write a program that answers as an interpreter does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folders in which interpreters are looked for."""
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/path:{tmp_path}/missing")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))
    return tmp_path


@pytest.mark.parametrize("words", [[], ["11"], ["13", "--unknown"]])
def test_wrong_arguments_for_the_debian_script_give_one_line_of_usage(words: list[str]) -> None:
    done = subprocess.run([SCRIPTS / "debian", *words], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("usage: ./scripts/debian {12|13|14|24.04|26.04} ")


def test_the_quick_tests_exist() -> None:
    assert [name for name in QUICK if not (CHECKOUT / name).exists()] == []
