"""Run the tests under every interpreter of this machine that relay supports. Run by ./scripts/pythons.

It looks for interpreters on PATH (`python3.13`), among those of pyenv and of uv. Of several with the same version it
takes one.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[1]
OLDEST: Final = (3, 11)
QUICK: Final = (
    "tests/cli/test_every_command_starts.py",
    "tests/events",
    "tests/config",
    "tests/spool/test_block.py",
    "tests/spool/test_numbers.py",
    "tests/syslog",
    "tests/values",
)
"""Each command starts, and the tests of the rooms that know no clock, disk or network."""
FEW_EXAMPLES: Final = ("-q", "--hypothesis-profile", "few", "-p", "no:cacheprovider")
_QUESTION: Final = """
import json, platform, sys, sysconfig
missing = []
for module in ("venv", "ensurepip"):
    try:
        __import__(module)
    except ImportError:
        missing.append(module)
threads = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(json.dumps([sys.version_info[:2], platform.python_version(), platform.python_implementation(), threads, missing]))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter that can run the tests."""

    path: str
    version: str


def candidates() -> Iterator[Path]:
    """Return every file that may be an interpreter; the one that runs this script is the first."""
    yield Path(sys.executable)
    for folder in os.environ["PATH"].split(os.pathsep):
        if Path(folder).is_dir():
            yield from sorted(path for path in Path(folder).iterdir() if re.fullmatch(r"python3\.\d+", path.name))
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    yield from sorted(pyenv.glob("versions/*/bin/python3"))
    yield from sorted(uv.glob("*/bin/python3"))


def interpreters() -> list[Interpreter]:
    """Return the supported interpreters, the oldest first, and report those that are left out."""
    found: dict[str, Interpreter] = {}
    for path in candidates():
        asked = subprocess.run(  # noqa: S603  interpreters of this machine
            [path, "-c", _QUESTION], capture_output=True, text=True, timeout=60, check=False
        )
        if asked.returncode:
            continue  # a shim of pyenv that leads to no version
        minor, version, implementation, without_lock, missing = json.loads(asked.stdout)
        if tuple(minor) < OLDEST or version in found:
            continue
        if implementation != "CPython" or without_lock:
            print(f"{path}: left out, because relay is for CPython with its global lock", file=sys.stderr)
        elif missing:
            print(f"{path}: left out; on Debian: apt install python{minor[0]}.{minor[1]}-venv", file=sys.stderr)
        else:
            found[version] = Interpreter(str(path), version)
    return sorted(
        found.values(), key=lambda interpreter: [int(number) for number in re.findall(r"\d+", interpreter.version)]
    )


def environment_of(interpreter: Interpreter) -> str:
    """Return the folder of its environment, which is made if necessary."""
    made = subprocess.run(  # noqa: S603  our own script
        [CHECKOUT / "scripts" / "bootstrap"],
        env={**os.environ, "PYTHON": interpreter.path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return made.stdout.strip()


def run(interpreter: Interpreter, arguments: list[str], *, quiet: bool) -> bool:
    """Run pytest under it, and print the result; with `quiet` pytest's output is shown only if it failed."""
    started = time.monotonic()
    done = subprocess.run(  # noqa: S603  pytest
        [f"{environment_of(interpreter)}/bin/pytest", *arguments],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    if quiet and done.returncode:
        print(done.stdout)
    outcome = "failed" if done.returncode else "passed"
    print(f"Python {interpreter.version}: {outcome} in {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode == 0


def main(arguments: list[str]) -> int:
    """Run pytest with the arguments under each interpreter; 1 when a run failed."""
    found = interpreters()
    if arguments == ["--quick"]:
        own = ".".join(map(str, sys.version_info[:3]))
        others = [interpreter for interpreter in found if interpreter.version != own]
        # One environment is made at a time, while the tests under another interpreter run.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            passed = list(pool.map(lambda each: run(each, [*FEW_EXAMPLES, *QUICK], quiet=True), others))
    else:
        passed = [run(interpreter, arguments or ["-n", "2"], quiet=False) for interpreter in found]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
