"""What relay's installation needs from a package index, as wheels in a folder, for machines without a network.

`wheels()` makes the folder with a fresh Debian's Python, `/usr/bin/python3`, and keeps it in the cache beside
the unpacked Debian packages, until `pyproject.toml` or that Python changes.
"""

import fcntl
import hashlib
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Final

from harness.debian import cache

DEBIANS_PYTHON: Final = "/usr/bin/python3"
_CHECKOUT: Final = Path(__file__).resolve().parents[2]


def wheels() -> Path:
    """The folder with the wheels of everything that relay needs, except relay itself."""
    project = (_CHECKOUT / "pyproject.toml").read_bytes()
    version = subprocess.run([DEBIANS_PYTHON, "--version"], capture_output=True, check=True).stdout
    folder = cache().parent / "wheels" / hashlib.sha256(version + project).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _build(folder, tomllib.loads(project.decode()))
    return folder


def _build(folder: Path, project: dict[str, dict[str, list[str]]]) -> None:
    shutil.rmtree(folder.parent / "new", ignore_errors=True)
    environment, fresh = folder.parent / "new/venv", folder.parent / "new/wheels"
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    _run(DEBIANS_PYTHON, "-m", "venv", str(environment))
    _run(f"{environment}/bin/pip", "wheel", "-q", "--disable-pip-version-check", "-w", str(fresh), *wanted)
    fresh.rename(folder)
    shutil.rmtree(folder.parent / "new")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
